"""Bundles: what is loaded is what was exported, by every backend; whatever differs is refused with the name of the term."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from transformers import ByT5Tokenizer

from policies.bundle import BundleError
from policies.bundle_folder import read_bundle, sha256
from policies.byte_tokens import byte_tokens
from policies.config import DiffusionHeadConfig, FlowHeadConfig, GaussianHeadConfig, HeadConfig, MeanFlowHeadConfig, TokenHeadConfig
from policies.deployed import Prefix, draw_noise, open_bundle
from policies.interface import PolicyError, SpecError, UserError
from policies.pack import pack
from policies.vla import VlaPolicy
from tests.policies.bundles import describe, make_bundle, make_policy
from tests.policies.helpers import IMAGE, STATE, TEXT, observations

HEADS: dict[str, HeadConfig] = {
    "tokens": TokenHeadConfig(bins=11),
    "gaussian": GaussianHeadConfig(),
    "flow": FlowHeadConfig(),
    "diffusion": DiffusionHeadConfig(steps=4),
    "meanflow": MeanFlowHeadConfig(),
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[VlaPolicy, Path]:
    folder = tmp_path_factory.mktemp("exported") / "bundle"
    return make_bundle(folder, FlowHeadConfig()), folder


@pytest.fixture
def bundle(exported: tuple[VlaPolicy, Path], tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return shutil.copytree(exported[1], tmp_path / "bundle")


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_torch_and_onnx_act_as_the_policy(head: HeadConfig, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra 'onnx'")
    policy = make_bundle(tmp_path / "bundle", head, onnx=True)
    by_torch, by_onnx = (open_bundle(tmp_path / "bundle", backend) for backend in ("torch", "onnx"))
    recorded = observations(6, seed=7)
    for row, seed in enumerate((0, 0, 1, 2, 3, 4)):
        obs = {name: value[row : row + 1] for name, value in recorded.items()}
        noise = draw_noise(by_torch.bundle, 1, seed)
        with torch.no_grad():
            context = policy.encode(obs)
            in_process = policy.greedy(context, None if noise is None else torch.as_tensor(noise)).numpy()
        assert np.array_equal(by_torch.chunk(obs, seed=seed), in_process)
        assert np.abs(by_onnx.chunk(obs, seed=seed) - in_process).max() < 1e-5
        if noise is None:
            assert np.array_equal(policy.sample(context, "greedy")[0].detach().numpy(), in_process)
        else:
            assert not np.array_equal(by_torch.chunk(obs, seed=seed + 1), in_process)
    assert by_onnx.bundle.onnx is not None
    assert by_onnx.bundle.onnx.max_difference < 1e-4


def test_onnx_runs_without_torch(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra 'onnx'")
    policy = make_bundle(tmp_path / "bundle", GaussianHeadConfig(), onnx=True)
    np.savez(tmp_path / "obs.npz", **observations(2))
    script = f"""
import sys
sys.modules["torch"] = None  # importing it fails
import numpy as np
from pathlib import Path
from policies.deployed import open_bundle
policy = open_bundle(Path("{tmp_path}/bundle"))
np.save("{tmp_path}/chunk.npy", policy.chunk(dict(np.load("{tmp_path}/obs.npz"))))
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[2])
    with torch.no_grad():
        wanted = policy.greedy(policy.encode(observations(2)), None).numpy()
    assert np.abs(np.load(tmp_path / "chunk.npy") - wanted).max() < 1e-5


@pytest.mark.parametrize("text", ["", "open the door", "Öffne die Tür → ☂", "x" * 254, "x" * 255, "x" * 300])
def test_tokens_are_those_of_training(text: str) -> None:
    wanted = ByT5Tokenizer(extra_ids=0)(text, padding="max_length", truncation=True, max_length=256, return_tensors="np")
    tokens, mask = byte_tokens(text)
    assert np.array_equal(tokens, wanted["input_ids"])
    assert np.array_equal(mask, wanted["attention_mask"])


def refused(folder: Path) -> str:
    """What opening the bundle is refused with."""
    with pytest.raises(UserError) as error:
        open_bundle(folder, "torch")
    return str(error.value)


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change `bundle.json`."""
    tree = json.loads((folder / "bundle.json").read_text())
    change(tree)
    (folder / "bundle.json").write_text(json.dumps(tree))


def rehash(folder: Path, *names: str) -> None:
    """Make the hashes of changed files right again, as somebody does who means it."""
    edit(folder, lambda tree: tree["files"].update({name: sha256(folder / name) for name in names}))


def test_a_whole_bundle_opens_and_is_never_overwritten(bundle: Path) -> None:
    assert open_bundle(bundle, "torch").bundle.delay_s == (0.0, 0.1)
    with pytest.raises(UserError, match="exists already"):
        make_bundle(bundle, GaussianHeadConfig())


def test_files(bundle: Path) -> None:
    weights = bundle / "policy/policy.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert "policy/policy.safetensors was changed or damaged" in refused(bundle)
    weights.unlink()
    assert "policy/policy.safetensors is missing" in refused(bundle)
    weights.symlink_to("/dev/null")
    assert "is a link" in refused(bundle)


def test_unlisted_files(bundle: Path) -> None:
    (bundle / "policy.onnx").write_bytes(b"x")
    assert "policy.onnx is not listed in bundle.json" in refused(bundle)


def test_the_sample_is_required(bundle: Path) -> None:
    (bundle / "sample.safetensors").unlink()
    edit(bundle, lambda tree: tree["files"].pop("sample.safetensors"))
    assert "lists no sample.safetensors" in refused(bundle)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda tree: tree.update(version=2), "has format version 2, this code reads 1"),
        (lambda tree: tree.pop("version"), "is not a bundle's description"),
        (lambda tree: tree.update(gain=3), "gain: Extra inputs are not permitted"),
        (lambda tree: tree["action_map"].reverse(), "action_map must have the names of the spec in its order"),
        (lambda tree: tree["observations"].reverse(), "observations must have the names of the spec in its order"),
        (lambda tree: tree["observations"][1].update(scale=[0.5]), "needs 2 scales and offsets, got (1, 2)"),
        (lambda tree: tree["observations"][0]["camera"].update(width_px=64), "camera is (32, 64), the entry (32, 32)"),
        (lambda tree: tree.update(delay_s=[0.2, 0.1]), "delay_s must be 0 ≤ shortest ≤ longest"),
        (lambda tree: tree["observations"][1].update(scale=[0.5, 2.1]), "observation 'observation.state', component 'y [m]'"),
        (lambda tree: tree["observations"][1].update(offset=[0.1, -1.0]), "observation 'observation.state', component 'x [m]'"),
        (lambda tree: tree["action_map"][0].update(scale=1.1), "the action map, component 'dx → x'"),
        (lambda tree: tree["action_map"][1].update(offset=0.0), "the action map, component 'grip → gripper'"),
        (lambda tree: tree["action_map"][0].update(kind="absolute"), "the action map, component 'dx → x'"),
        (lambda tree: tree["action_map"][0].update(target="y"), "component 0 of 'target' is 'tool/y [m]' in bundle.json, 'tool/x [m]'"),
        (lambda tree: tree["action_map"][0].update(unit="mm"), "component 0 of 'target' is 'tool/x [mm]'"),
        (lambda tree: tree["spec"]["entries"][1].update(names=["y [m]", "x [m]"]), "disagree on entries.observation.state.names"),
        (lambda tree: tree["spec"]["entries"][1].update(frame="base"), "disagree on entries.observation.state.frame"),
        (lambda tree: tree["spec"].update(control_hz=20), "disagree on control_hz: 20.0 against 10.0"),
        (lambda tree: tree["spec"]["action"].update(high=[0.2, 1.0]), "disagree on action.high"),
        (lambda tree: tree.update(noise_shape=[4, 3]), "starts from noise of shape (4, 2), bundle.json says (4, 3)"),
    ],
)
def test_an_edited_description(change: Callable[[dict[str, Any]], None], sentence: str, bundle: Path) -> None:
    edit(bundle, change)
    assert sentence in refused(bundle)


def test_permuted_joints_with_hashes_made_right(bundle: Path) -> None:
    def permute(tree: dict[str, Any]) -> None:
        tree["spec"]["entries"][1]["names"].reverse()

    edit(bundle, permute)
    spec = json.loads((bundle / "policy/spec.json").read_text())
    spec["entries"][1]["names"].reverse()
    (bundle / "policy/spec.json").write_text(json.dumps(spec))
    rehash(bundle, "policy/spec.json")
    assert (
        "component 0 of 'observation.state' is 'y [m]' in bundle.json, 'x [m]' in the recorded sample (the same names in another order)"
        in refused(bundle)
    )


def test_other_weights_with_hashes_made_right(bundle: Path) -> None:
    weights = load_file(bundle / "policy/policy.safetensors")
    weights["queries"] *= -1
    save_file(weights, bundle / "policy/policy.safetensors")
    rehash(bundle, "policy/policy.safetensors")
    assert "does not act as recorded: action '" in refused(bundle)
    read_bundle(bundle)  # what can be seen without the policy is in order


def test_a_sample_that_is_none(bundle: Path) -> None:
    save_file({"x": np.zeros(1)}, bundle / "sample.safetensors")
    rehash(bundle, "sample.safetensors")
    assert "is not a bundle's sample" in refused(bundle)
    (bundle / "sample.safetensors").write_bytes(b"\x80\x04K\x01.")
    rehash(bundle, "sample.safetensors")
    assert "is not a bundle's sample" in refused(bundle)


def test_no_onnx_in_the_bundle(bundle: Path) -> None:
    with pytest.raises(BundleError, match=r"has no policy\.onnx: export it with --onnx"):
        open_bundle(bundle, "onnx")


def test_nothing_is_left_of_an_export_that_fails(tmp_path: Path) -> None:
    policy = make_policy(GaussianHeadConfig())
    wrong = describe(policy)
    term = wrong.observations[1].model_copy(update={"scale": (0.5, 3.0)})
    with pytest.raises(BundleError, match=r"component 'y \[m\]'"):
        pack(
            policy,
            wrong.model_copy(update={"observations": (wrong.observations[0], term, wrong.observations[2])}),
            observations(2),
            tmp_path / "out",
        )
    assert list(tmp_path.iterdir()) == []


def test_bad_observations_and_prefixes_are_refused(bundle: Path) -> None:
    policy = open_bundle(bundle, "torch")
    good = observations(1)
    nan = good | {STATE: np.full((1, 2), np.nan, np.float32)}
    for bad, sentence in (
        (nan, "'observation.state' holds NaN"),
        (good | {STATE: observations(2)[STATE]}, "one batch size"),
        (good | {STATE: good[STATE].astype(np.float64)}, "has dtype float64, the spec wants float32"),
        (good | {IMAGE: good[IMAGE][:, :16]}, "has shape"),
        ({name: good[name] for name in (IMAGE, TEXT)}, r"missing \['observation.state'\]"),
    ):
        with pytest.raises(SpecError, match=sentence):
            policy.chunk(bad)
    assert policy.chunk(good, prefix=Prefix(np.zeros((2, 2), np.float32), 1)).shape == (1, 4, 2)
    with pytest.raises(SpecError, match="a prefix must be finite float32"):
        policy.chunk(good, prefix=Prefix(np.zeros((5, 2), np.float32), 1))


def test_a_chunk_of_nan_is_refused(bundle: Path) -> None:
    policy = open_bundle(bundle, "torch")
    policy._act = lambda observation, noise, prefix: np.full((1, 4, 2), np.nan, np.float32)
    with pytest.raises(PolicyError, match="NaN or infinite"):
        policy.chunk(observations(1))
