"""Devices, precision and compilation: refused where they are missing, close where they are not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from policies.folder import make_policy, save_policy
from policies.interface import UserError
from tests.policies.helpers import SPEC, observations
from tests.policies.test_heads import HEADS, make
from tests.policies.tiny_vlm import make_vlm, tiny_smolvla
from vla_rl.compute import prepare, require_device
from vla_rl.config import ComputeConfig
from vla_rl.latency import LatencyConfig, _lerobots, bench_latency, example

MASK = torch.ones(6, 4, 2, dtype=torch.bool)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_missing_device_is_an_error_and_never_replaced() -> None:
    with pytest.raises(UserError, match=r"compute\.device cuda cannot be used here: .*; there is cpu only"):
        require_device("cuda")
    with pytest.raises(UserError, match=r"compute\.device gpu cannot be used here"):
        require_device("gpu")


@pytest.mark.parametrize("name", ["tokens", "flow"])
def test_bf16_changes_the_trunk_only_a_little_and_scores_in_float32(name: str) -> None:
    whole, half = make(HEADS[name]), prepare(make(HEADS[name]), ComputeConfig(precision="bf16"))
    obs = observations(6)
    with torch.no_grad():
        _, decision = whole.sample(whole.encode(obs), "stochastic", 1.0, torch.Generator().manual_seed(0))
        exact, rounded = (policy.factors(policy.encode(obs), decision, MASK) for policy in (whole, half))
    assert rounded.log_prob().dtype == torch.float32
    difference = (exact.log_prob() - rounded.log_prob()).abs().max().item()
    assert 0 < difference < 0.2


@pytest.mark.slow
def test_a_compiled_trunk_computes_the_same() -> None:
    plain, compiled = make(HEADS["tokens"]), prepare(make(HEADS["tokens"]), ComputeConfig(compile=True))
    with torch.no_grad():
        a, b = (policy.encode(observations(6)).features for policy in (plain, compiled))
    assert torch.allclose(a, b, atol=1e-5)
    assert plain.state_dict().keys() == compiled.state_dict().keys()


def test_latency_is_measured_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("flow", "meanflow"):
        save_policy(make(HEADS[name]), tmp_path / name)
    result = bench_latency([tmp_path / "flow", tmp_path / "meanflow"], LatencyConfig(repeats=5, out=tmp_path / "latency.json"))
    assert result[f"{tmp_path / 'flow'} ratio"] == 1
    assert result[str(tmp_path / "meanflow")] > 0
    record = json.loads((tmp_path / "latency.json").read_text())
    assert record["milliseconds"] == result and record["settings"]["repeats"] == 5 and "commit" in record and "machine" in record
    assert capsys.readouterr().out.count("× the first") == 2


def test_lerobots_own_prediction_is_measured_too(tmp_path: Path) -> None:
    pytest.importorskip("num2words", reason="SmolVLA needs the extra 'lerobot-vla'")
    policy = make_policy(tiny_smolvla(make_vlm(tmp_path / "vlm")), SPEC)
    save_policy(policy, tmp_path / "policy")
    result = bench_latency([tmp_path / "policy"], LatencyConfig(repeats=3))
    assert [name for name in result if "ratio" not in name] == [str(tmp_path / "policy"), f"{tmp_path / 'policy'} by LeRobot"]
    theirs = _lerobots(policy, example(SPEC, 1))()
    assert isinstance(theirs, torch.Tensor) and theirs.shape == (1, SPEC.chunk, len(SPEC.action.names))
    with pytest.raises(UserError, match=r"compute\.compile has no effect on SmolVLA"):
        prepare(policy, ComputeConfig(compile=True))


def test_examples_fit_the_spec() -> None:
    SPEC.check(example(SPEC, 3))
