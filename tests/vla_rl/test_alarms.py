"""Numbers that say when likelihood-based training goes wrong, by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from policies.factors import Decision
from policies.gaussian import GaussianFactors
from tests.vla_rl.counting import CountingEnv, counting_policy
from tests.vla_rl.test_training import config, metrics
from vla_rl.alarms import alarms, factor_metrics, ratio_metrics
from vla_rl.algorithms.grpo import Grpo
from vla_rl.batch import Episode
from vla_rl.config import GrpoConfig
from vla_rl.loops import on_policy
from vla_rl.rollout import run_episodes
from vla_rl.run import Run
from vla_rl.scoring import mismatch


def test_ratio_metrics_by_hand() -> None:
    log_ratio = torch.tensor([[math.log(1.5), 0.0], [math.log(0.5), 99.0]])
    mask = torch.tensor([[True, True], [True, False]])
    found = ratio_metrics(log_ratio, mask, clip=0.2, clip_high=0.28)
    assert found["ratio"] == pytest.approx(1.0)  # (1.5 + 1 + 0.5) / 3
    assert found["clip_fraction"] == pytest.approx(2 / 3)
    assert found["ess_lost"] == pytest.approx(1 - 9 / (3 * 3.5))  # (Σρ)² / nΣρ², Σρ² = 2.25 + 1 + 0.25


@pytest.mark.parametrize("most", [0.0, 30.0, 60.0, 300.0])
def test_ratios_of_any_size_leave_finite_numbers(most: float) -> None:
    found = ratio_metrics(torch.tensor([[most, 0.0]]), torch.ones(1, 2, dtype=torch.bool), 0.2, 0.2)
    assert all(map(math.isfinite, found.values()))
    assert found["ess_lost"] == pytest.approx(0.5 if most else 0.0, abs=1e-6)


def test_the_rollouts_kl_is_estimated_without_bias_and_per_factor() -> None:
    """From draws of N(0, 1), with N(0.3, 1) now: KL = 0.3² / 2."""
    drawn = torch.randn(200_000, 1, 1, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    now, then = (
        GaussianFactors(torch.full_like(drawn, mean), torch.ones(1), drawn, torch.ones(200_000, 1, 1, dtype=torch.bool), drawn, 1.0)
        for mean in (0.3, 0.0)
    )
    found = factor_metrics(now, None, Decision({"chunk": drawn}, "stochastic", 1.0), then.log_prob())
    assert found["rollout_kl"] == pytest.approx(0.045, rel=0.02)
    assert set(found) == {"entropy", "rollout_kl"}


def test_kl_per_denoising_step_by_hand_counts_only_what_was_executed() -> None:
    """Two decisions drew at steps 0 and 1, a third at step 1 too, but nothing of it was executed."""
    mean = torch.tensor([1.0, 2.0, 99.0]).view(3, 1, 1, 1)
    elements = torch.tensor([True, True, False]).view(3, 1, 1)
    student, teacher = (GaussianFactors(at, torch.ones(1), at, elements, at, 1.0) for at in (mean, torch.zeros_like(mean)))
    decision = Decision({"index": torch.tensor([[0], [1], [1]])}, "stochastic", 1.0)
    behaviour = student.log_prob() - torch.tensor([[0.1], [0.2], [5.0]])
    found = factor_metrics(student, teacher, decision, behaviour)
    assert found["reverse_kl"] == pytest.approx((0.5 + 2.0) / 2)  # ½ (difference of means)²
    assert (found["reverse_kl_step0"], found["reverse_kl_step1"]) == pytest.approx((0.5, 2.0))
    assert found["rollout_kl_step1"] == pytest.approx(math.exp(0.2) - 1.2, rel=1e-4)
    assert found["rollout_kl"] == pytest.approx((math.exp(0.1) - 1.1 + math.exp(0.2) - 1.2) / 2, rel=1e-4)


def test_a_run_prints_an_alarm_once_and_keeps_its_metrics(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = GrpoConfig(updates=3, episodes=4, group=2, passes=1)
    on_policy(Run(tmp_path, config(settings), resume=False), Grpo(counting_policy(), settings, None), CountingEnv(2))
    printed = capsys.readouterr().out
    assert printed.count("warning: update 1: zero_variance_groups = 1: most groups have equal outcomes") == 1
    assert "update 2: zero_variance_groups" not in printed
    assert [row["zero_variance_groups"] for row in metrics(tmp_path)[1:]] == [1.0] * 3


def test_mismatch_is_rounding_for_the_same_weights_and_large_for_others() -> None:
    batch, _ = run_episodes(counting_policy(), CountingEnv(2), [Episode("count", 99)] * 4, mode="stochastic", seed=0, keep=True)
    assert batch is not None
    rows = torch.arange(len(batch))
    assert mismatch(counting_policy(), batch, rows) < 1e-4
    other = replace(batch, log_prob=batch.log_prob + 0.2 * (rows[:, None] == 1))
    assert mismatch(counting_policy(), other, rows) == pytest.approx(0.2, abs=1e-4)


def test_alarms_name_the_metric_and_what_to_do() -> None:
    assert alarms({"update": 3, "clip_fraction": 0.1, "log_prob_mismatch": 1e-6}) == {}
    found = alarms({"update": 3, "log_prob_mismatch": 0.2, "zero_variance_groups": 1.0})
    assert list(found) == ["log_prob_mismatch", "zero_variance_groups"]
    assert list(alarms({"update": 3, "ess_lost": math.nan})) == ["ess_lost"]
    assert "log_prob_mismatch = 0.2: rollout and training disagree" in found["log_prob_mismatch"]
