"""A bundle on the simulated robot, episode after episode: what is scored, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs the ros extra: pip install 'vla-rl[ros]'")

from policies.bundle_folder import read_bundle
from policies.config import GaussianHeadConfig, PolicyConfig
from tests.random_run import random_run
from tests.repo.imports import ROOT
from tests.ros import unique_domain, write_profile
from tests.vla_rl.test_cli import refused
from vla_rl.cli import main
from vla_rl.config import SimConfig
from vla_rl.evaluate import Evaluation, TaskResult
from vla_rl.trials import instruction

pytestmark = pytest.mark.ros
PROFILE = str(ROOT / "configs" / "robots" / "arm7.yaml")
PATIENT = {"heartbeat_timeout_s": 10.0, "deadman_timeout_s": 5.0, "frozen_s": 10.0, "starvation_s": 20.0, "watchdog_misses": 200}
SIM = SimConfig(backend="mujoco", tasks=("reach",), num_envs=1, workers=1, image_px=64, control="joint_delta")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a policy with random weights, which decides after half of its chunk."""
    folder = tmp_path_factory.mktemp("run")
    random_run(folder, SIM, PolicyConfig(head=GaussianHeadConfig()))
    assert main(["export", str(folder), "--out", str(folder / "bundle"), "--executed", "4"]) == 0
    return folder / "bundle"


def evaluation(path: Path, first_seed: int) -> Path:
    task = TaskResult(task="reach", first_seed=first_seed, outcomes="10", at_end="10", steps=(9, 60))
    Evaluation(split="test", tasks=(task,)).save(path)
    return path


def test_episodes_are_scored_and_paired(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert read_bundle(bundle).spec.executed == 4
    monkeypatch.setenv("ROS_DOMAIN_ID", str(unique_domain()))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    against = str(evaluation(tmp_path / "evaluation.json", 2_000_003))
    patient = write_profile(tmp_path, ages={"state_s": 2.0, "image_s": 5.0, "chunk_s": 10.0}, safety=PATIENT)  # machines are loaded
    arguments = [str(bundle), "--robot", str(patient), "--task", "reach", "--episodes", "2", "--skip", "3"]
    assert main(["trials", *arguments, "--out", str(tmp_path / "trials"), "--against", against]) == 0
    task = Evaluation.load(tmp_path / "trials" / "trials.json").tasks[0]
    assert json.loads((tmp_path / "trials" / "environment.json").read_text())["machine"]
    assert (task.task, task.first_seed, len(task.outcomes)) == ("reach", 2_000_003, 2)
    assert all(steps == 60 for steps, outcome in zip(task.steps, task.outcomes, strict=True) if outcome == "0"), "the horizon is played out"
    assert "over ROS 2 less in the simulator" in capfd.readouterr().out


def test_other_seeds_are_refused_before_anything_starts(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["trials", str(bundle), "--robot", PROFILE, "--out", str(tmp_path / "trials"), "--task", "reach", "--episodes", "2"]
    assert "is not an evaluation of reach on the 2 test seeds from 2000000" in refused(
        [*arguments, "--against", str(evaluation(tmp_path / "evaluation.json", 2_000_003))], capsys
    )
    assert "unknown task 'grab'" in refused(["trials", str(bundle), "--robot", PROFILE, "--out", "x", "--task", "grab"], capsys)
    assert not (tmp_path / "trials").exists()


def test_more_steps_than_trained_are_refused(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["export", str(bundle.parent), "--out", str(tmp_path / "bundle"), "--executed", "9"]
    assert "executed must lie in 1..8" in refused(arguments, capsys)


def test_other_seeds_of_a_task_are_about_other_things():
    for task in ("hands", "reach"):
        told = [instruction(task, number) for number in range(8)]
        assert len(set(told)) > 3 and told == [instruction(task, number) for number in range(8)]
    assert "hand" in instruction("hands", 0) and "hand" not in instruction("drawer", 0)
