"""The parallel token head: bins, sampling, scoring, and an expert's Gaussian as bin masses."""

from __future__ import annotations

import math

import pytest
import torch

from policies.heads.tokens import TokenHead


@pytest.fixture
def head() -> TokenHead:
    torch.manual_seed(0)
    return TokenHead(width=8, action_dim=2, bins=5).double()


FEATURES = torch.randn(3, 4, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
MASK = torch.ones(3, 4, 2, dtype=torch.bool)


def test_bins_span_the_range_and_round_to_the_nearest(head: TokenHead) -> None:
    assert head.decode(torch.arange(5)).tolist() == [-1, -0.5, 0, 0.5, 1]
    assert head.encode(torch.tensor([-3.0, -1.0, -0.3, 0.24, 0.26, 0.9, 7.0])).tolist() == [0, 0, 1, 2, 3, 4, 4]
    assert torch.equal(head.encode(head.decode(torch.arange(5))), torch.arange(5))


def test_token_order_is_step_major(head: TokenHead) -> None:
    chunk, decision = head.sample(FEATURES, "greedy", 1.0, None)
    assert chunk.shape == (3, 4, 2)
    assert torch.equal(head.decode(decision.values["tokens"]).reshape(3, 4, 2), chunk)
    assert decision.values["tokens"][0, 3] == head.logits(FEATURES)[0, 3].argmax()  # factor 3 is step 1, dimension 1


def test_samples_follow_the_distribution_at_the_temperature(head: TokenHead) -> None:
    generator = torch.Generator().manual_seed(0)
    features = FEATURES[:1].repeat(20_000, 1, 1)
    _, decision = head.sample(features, "stochastic", 2.0, generator)
    frequency = torch.nn.functional.one_hot(decision.values["tokens"], 5).double().mean(0)
    expected = (head.logits(FEATURES[:1])[0] / 2.0).softmax(-1)
    assert (frequency - expected).abs().max() < 0.02


def test_factors_score_at_the_temperature_of_the_decision(head: TokenHead) -> None:
    _, decision = head.sample(FEATURES, "stochastic", 1.6, torch.Generator().manual_seed(0))
    expected = (head.logits(FEATURES) / 1.6).log_softmax(-1)
    assert torch.allclose(head.factors(FEATURES, decision, MASK).log_probs, expected)


def test_expert_gaussian_becomes_bin_masses(head: TokenHead) -> None:
    # Bin edges at ±0.25 and ±0.75. N(0, 0.25²): the middle bin holds Φ(1) − Φ(−1) = 0.6827, the outer two 1 − Φ(3) each.
    _, decision = head.sample(FEATURES, "greedy", 1.0, None)
    mean = torch.zeros(3, 4, 2, dtype=torch.float64)
    probabilities = head.implied_factors(mean, 0.25, decision, MASK).log_probs[0, 0].exp()
    assert probabilities.tolist() == pytest.approx([0.0013499, 0.1573054, 0.6826895, 0.1573054, 0.0013499], abs=1e-7)
    assert head.implied_factors(mean + 0.9, 0.01, decision, MASK).log_probs.exp().sum(-1).allclose(torch.ones(3, 8, dtype=torch.float64))


def test_far_bins_keep_finite_log_masses(head: TokenHead) -> None:
    _, decision = head.sample(FEATURES, "greedy", 1.0, None)
    far = head.implied_factors(torch.full((3, 4, 2), -1.0, dtype=torch.float64), 0.05, decision, MASK).log_probs[0, 0, -1].item()
    # mass beyond 0.75, 35 standard deviations away: log Φ(−35) ≈ −35²/2 − log(35 √(2π))
    assert far == pytest.approx(-612.5 - math.log(35 * math.sqrt(2 * math.pi)), rel=1e-4)


def test_loss_counts_unmasked_elements_by_weight(head: TokenHead) -> None:
    chunk = torch.zeros(3, 4, 2, dtype=torch.float64)
    mask = MASK.clone()
    mask[0, 2:] = False
    weight = torch.tensor([2.0, 1.0, 0.0], dtype=torch.float64)
    nll = -head.logits(FEATURES).log_softmax(-1)[..., 2]  # bin 2 is action 0
    expected = (2 * nll[0, :4].sum() + nll[1].sum()) / (2 * 4 + 8)
    assert head.loss(FEATURES, chunk, mask, weight, None).item() == pytest.approx(expected.item())
