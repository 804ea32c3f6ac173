"""Categorical factors against numbers worked by hand."""

from __future__ import annotations

import math

import pytest
import torch

from policies.factors import CategoricalFactors, Decision
from policies.interface import SpecError


def factors(probabilities: list[list[list[float]]], tokens: list[list[int]], temperature: float = 1.0) -> CategoricalFactors:
    log_probs = torch.tensor(probabilities, dtype=torch.float64).log()
    return CategoricalFactors(log_probs, torch.tensor(tokens), torch.ones(len(tokens), len(tokens[0]), dtype=torch.bool), temperature)


P = factors([[[0.5, 0.25, 0.25], [0.8, 0.1, 0.1]]], [[1, 0]])
Q = factors([[[0.25, 0.5, 0.25], [0.8, 0.1, 0.1]]], [[1, 0]])


def test_log_prob_is_that_of_the_drawn_token() -> None:
    assert P.log_prob()[0].tolist() == pytest.approx([math.log(0.25), math.log(0.8)])


def test_entropy() -> None:
    # 0.5 ln 2 + 2 · 0.25 ln 4 = 1.5 ln 2
    assert P.entropy()[0, 0].item() == pytest.approx(1.5 * math.log(2))


def test_reverse_and_forward_kl() -> None:
    # reverse KL(P‖Q) = 0.5 ln 2 + 0.25 ln ½ = 0.25 ln 2; forward KL(Q‖P) = 0.25 ln ½ + 0.5 ln 2: equal here by symmetry
    assert P.kl(Q, "reverse")[0].tolist() == pytest.approx([0.25 * math.log(2), 0.0])
    skewed = factors([[[0.1, 0.6, 0.3], [0.8, 0.1, 0.1]]], [[1, 0]])
    reverse = 0.5 * math.log(5) + 0.25 * math.log(0.25 / 0.6) + 0.25 * math.log(0.25 / 0.3)
    forward = 0.1 * math.log(0.2) + 0.6 * math.log(2.4) + 0.3 * math.log(1.2)
    assert P.kl(skewed, "reverse")[0, 0].item() == pytest.approx(reverse)
    assert P.kl(skewed, "forward")[0, 0].item() == pytest.approx(forward)


def test_cross_entropy_is_at_the_other_ones_mode() -> None:
    assert P.cross_entropy(Q)[0].tolist() == pytest.approx([-math.log(0.25), -math.log(0.8)])


def test_index_and_cat_are_inverse() -> None:
    both = CategoricalFactors.cat([P, Q])
    assert torch.equal(both[torch.tensor([1])].log_probs, Q.log_probs)
    assert torch.equal(both[torch.tensor([0])].tokens, P.tokens)


def test_other_bins_or_temperature_are_refused() -> None:
    with pytest.raises(SpecError, match="same chunk length, action dimensions and bins"):
        P.kl(factors([[[0.5, 0.5], [0.5, 0.5]]], [[0, 0]]), "reverse")
    with pytest.raises(SpecError, match=r"temperatures: 1.0 against 1.6"):
        P.kl(factors([[[0.5, 0.25, 0.25], [0.8, 0.1, 0.1]]], [[1, 0]], temperature=1.6), "reverse")


def test_decisions_of_different_temperature_do_not_join() -> None:
    tokens = {"tokens": torch.zeros(1, 2, dtype=torch.long)}
    with pytest.raises(ValueError, match="different mode or temperature"):
        Decision.cat([Decision(tokens, "stochastic", 1.0), Decision(tokens, "stochastic", 1.6)])
