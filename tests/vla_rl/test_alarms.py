"""Numbers that say when likelihood-based training goes wrong, by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from tests.vla_rl.counting import CountingEnv, counting_policy
from vla_rl.alarms import alarms, ratio_metrics
from vla_rl.batch import Episode
from vla_rl.rollout import run_episodes
from vla_rl.scoring import mismatch


def test_ratio_metrics_by_hand() -> None:
    log_ratio = torch.tensor([[math.log(1.5), 0.0], [math.log(0.5), 99.0]])
    mask = torch.tensor([[True, True], [True, False]])
    metrics = ratio_metrics(log_ratio, mask, clip=0.2, clip_high=0.28)
    assert metrics["ratio"] == pytest.approx(1.0)  # (1.5 + 1 + 0.5) / 3
    assert metrics["clip_fraction"] == pytest.approx(2 / 3)
    assert metrics["ess_lost"] == pytest.approx(1 - 9 / (3 * 3.5))  # (Σρ)² / nΣρ², Σρ² = 2.25 + 1 + 0.25


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
    assert "log_prob_mismatch = 0.2: rollout and training disagree" in found["log_prob_mismatch"]
