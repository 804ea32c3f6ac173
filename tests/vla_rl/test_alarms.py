"""Numbers that say when likelihood-based training goes wrong, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from vla_rl.alarms import alarms, mismatch, ratio_metrics


def test_ratio_metrics_by_hand() -> None:
    log_ratio = torch.tensor([[math.log(1.5), 0.0], [math.log(0.5), 99.0]])
    mask = torch.tensor([[True, True], [True, False]])
    metrics = ratio_metrics(log_ratio, mask, clip=0.2, clip_high=0.28)
    assert metrics["ratio"] == pytest.approx(1.0)  # (1.5 + 1 + 0.5) / 3
    assert metrics["clip_fraction"] == pytest.approx(2 / 3)
    assert metrics["ess_lost"] == pytest.approx(1 - 9 / (3 * 3.5))  # (Σρ)² / nΣρ², Σρ² = 2.25 + 1 + 0.25


def test_mismatch_is_the_largest_difference_that_counts() -> None:
    a, b = torch.tensor([[0.0, -1.0, 5.0]]), torch.tensor([[0.01, -1.2, 0.0]])
    assert mismatch(a, b, torch.tensor([[True, True, False]])) == pytest.approx(0.2)


def test_alarms_name_the_metric_and_what_to_do() -> None:
    assert alarms({"update": 3, "clip_fraction": 0.1, "log_prob_mismatch": 1e-6}) == {}
    found = alarms({"update": 3, "log_prob_mismatch": 0.2, "zero_variance_groups": 1.0})
    assert list(found) == ["log_prob_mismatch", "zero_variance_groups"]
    assert "log_prob_mismatch = 0.2: rollout and training disagree" in found["log_prob_mismatch"]
