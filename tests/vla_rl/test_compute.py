"""Devices, precision and compilation: refused where they are missing, close where they are not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from policies.folder import save_policy
from policies.interface import UserError
from tests.policies.helpers import SPEC, observations
from tests.policies.test_heads import HEADS, make
from vla_rl.compute import prepare, require_device
from vla_rl.config import ComputeConfig
from vla_rl.latency import LatencyConfig, bench_latency, example

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
    result = bench_latency([tmp_path / "flow", tmp_path / "meanflow"], LatencyConfig(repeats=5))
    assert result[f"{tmp_path / 'flow'} ratio"] == 1
    assert result[str(tmp_path / "meanflow")] > 0
    assert capsys.readouterr().out.count("× the first") == 2


def test_examples_fit_the_spec() -> None:
    SPEC.check(example(SPEC, 3))
