"""Bad input through the command line: one clear sentence, a non-zero exit, nothing half-written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import yaml

from policies.config import PolicyConfig
from policies.folder import save_policy
from policies.vla import VlaPolicy
from tests.policies.helpers import SPEC
from vla_rl.cli import main
from vla_rl.config import Config, SimConfig
from vla_rl.presets import dump_yaml, load_config
from vla_rl.train import make_env, make_spec

TINY = ["--sim.tasks", "plate-slide", "--sim.num-envs", "1", "--sim.workers", "1"]


def preset(folder: Path, **tree: object) -> str:
    path = folder / "preset.yaml"
    path.write_text(yaml.safe_dump(tree))
    return str(path)


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run, expect exit status 2, return the sentence on stderr."""
    assert main(arguments) == 2
    sentence = capsys.readouterr().err
    assert "Traceback" not in sentence
    return sentence


def test_unknown_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert "unknown verb 'trian'; did you mean train?" in refused(["trian"], capsys)


@pytest.mark.parametrize(
    ("verb", "says"), [("train", "configs/student.yaml"), ("collect", "--bank"), ("eval", "--out"), ("export", "--onnx")]
)
def test_help_needs_no_config(verb: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([verb, "--help"])
    told = capsys.readouterr()
    assert (end.value.code, told.err) == (0, "") and says in told.out and "lists them" in told.out


def test_help_of_a_preset_lists_its_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["train", preset(tmp_path, algorithm={"name": "sft"}), "--help"])
    assert end.value.code == 0 and "--algorithm.lr" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("tree", "sentence"),
    [
        ({"algorithm": {"name": "opd", "temprature": 1.0}}, "unknown key algorithm.opd.temprature; did you mean algorithm.temperature?"),
        ({"zzz": {}}, "unknown key zzz; known are"),
        ({"algorithm": {"name": "pppo"}}, "'pppo' found using 'name' does not match any of the expected tags: 'sft', 'opd'"),
        ({"algorithm": {"name": "grpo", "group": 1}}, "algorithm.grpo.group = 1: input should be greater than or equal to 2"),
        ({"algorithm": {"name": "grpo", "distill": 1.0}, "init": "x"}, "grpo with distill 1 needs a teacher"),
        ({"algorithm": {"name": "ppo"}, "init": "x", "teacher": "expert"}, "ppo takes no teacher: remove it"),
        ({"algorithm": {"name": "dagger"}, "init": "x"}, "dagger needs a teacher"),
        ({"policy": {"head": {"name": "tokens", "steps": 4}}}, "unknown key policy.vla.head.tokens.steps; did you mean algorithm.steps"),
        ({"policy": {"name": "smolvla", "head": {"noise": "learned"}}}, "SmolVLA has no head for learned noise"),
        ({"compute": {"device": "gpu"}}, "compute.device gpu cannot be used here"),
        ({"algorithm": {"name": "sft", "lr": "fast"}}, "algorithm.sft.lr = 'fast': input should be a valid number"),
        ({"algorithm": {"name": "sft", "steps": 0}}, "algorithm.sft.steps = 0: input should be greater than 0"),
        ({"algorithm": {"name": "opd", "estimator": "sampled", "signal": "forward_kl"}}, "'sampled' estimates reverse_kl only"),
        ({"policy": {"chunk": 4}}, "executed must be at most chunk=4, got 8"),
        ({"algorithm": {"name": "sft"}}, "sft needs demonstrations: set data.path"),
        ({"algorithm": {"name": "opd"}}, "opd starts from a student: set init"),
        ({"algorithm": {"name": "opd"}, "init": "x"}, "opd with signal reverse_kl needs a teacher"),
        (
            {"algorithm": {"name": "opd", "signal": "constant_negative"}, "init": "x", "teacher": "expert"},
            "opd with signal constant_negative takes no teacher: remove it",
        ),
        ({"sim": {"tasks": ["drawer-opn"]}, "data": {"path": "x"}}, "unknown Meta-World task 'drawer-opn'; did you mean drawer-open"),
        ({"sim": {"camera": "corner"}, "data": {"path": "x"}}, "unknown camera 'corner'; did you mean corner2"),
    ],
)
def test_bad_presets(tree: dict[str, object], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sentence in refused(["train", preset(tmp_path, **tree), "--run-dir", str(tmp_path / "run")], capsys)
    assert not (tmp_path / "run").exists()


def test_unknown_flag_gets_a_suggestion(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_status:
        main(["train", preset(tmp_path), "--algorithm.stepz", "3"])
    assert exit_status.value.code == 2
    assert "algorithm.steps" in capsys.readouterr().err


def test_missing_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ["--run-dir", str(tmp_path / "run")]
    assert "no such preset or config file: nowhere.yaml" in refused(["train", "nowhere.yaml", *run], capsys)
    assert "nowhere" in refused(["train", preset(tmp_path), "--data.path", "nowhere", *TINY, *run], capsys)
    opd = preset(tmp_path, algorithm={"name": "opd"})
    assert "nowhere is not a policy folder" in refused(["train", opd, "--init", "nowhere", "--teacher", "expert", *TINY, *run], capsys)
    assert not (tmp_path / "run").exists()


def test_policy_of_another_camera_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    env = make_env(SimConfig(tasks=("plate-slide",), num_envs=1, workers=1))
    spec = make_spec(env.spec, PolicyConfig())
    env.close()
    torch.manual_seed(0)
    save_policy(VlaPolicy(PolicyConfig(), spec), tmp_path / "policy")
    sentence = refused(["eval", str(tmp_path / "policy"), "--sim.camera", "behind", "--evaluate.shuffled", "False", *TINY], capsys)
    assert "policy and environment disagree on entries.observation.images.corner2" in sentence
    assert "needs --out DIR" in refused(["eval", "expert", *TINY], capsys)
    sentence = refused(["eval", str(tmp_path / "policy"), "--executed", "9", "--evaluate.shuffled", "False", *TINY], capsys)
    assert "executed must lie in 1..8" in sentence
    save_policy(VlaPolicy(PolicyConfig(), SPEC), tmp_path / "other")
    opd = ["train", preset(tmp_path, algorithm={"name": "opd"}), "--init", str(tmp_path / "policy"), "--run-dir", str(tmp_path / "run")]
    assert "student and teacher disagree on embodiment" in refused([*opd, "--teacher", str(tmp_path / "other"), *TINY], capsys)
    assert not (tmp_path / "run").exists()


def test_full_disk_is_told_before_training(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    env = make_env(SimConfig(tasks=("plate-slide",), num_envs=1, workers=1))
    spec = make_spec(env.spec, PolicyConfig())
    env.close()
    save_policy(VlaPolicy(PolicyConfig(), spec), tmp_path / "policy")
    usage = type(shutil.disk_usage(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(2**30, 2**30, 2**20))
    opd = ["train", preset(tmp_path, algorithm={"name": "opd"}), "--init", str(tmp_path / "policy"), "--teacher", "expert", *TINY]
    assert "only 1 MiB are free" in refused([*opd, "--run-dir", str(tmp_path / "run")], capsys)
    assert not (tmp_path / "run").exists()


def test_a_runs_own_config_is_a_valid_preset(tmp_path: Path) -> None:
    config = Config(seed=3, sim=SimConfig(tasks=("push",)))
    dump_yaml(config, tmp_path / "config.yaml")
    assert load_config(Config, tmp_path / "config.yaml") == config
    assert load_config(Config, tmp_path / "config.yaml", ["--algorithm.lr", "0.5", "--evaluate.shuffled", "True"]).evaluate.shuffled
