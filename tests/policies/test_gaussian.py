"""Gaussian factors against numbers worked by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from policies.gaussian import GaussianFactors
from policies.interface import SpecError


def factors(mean: list[float], std: float, value: list[float], counted: list[bool], temperature: float = 1.0) -> GaussianFactors:
    """One decision with one factor over a chunk of steps with one dimension."""
    shape = (1, 1, len(mean), 1)
    return GaussianFactors(
        torch.tensor(mean).reshape(shape),
        torch.full(shape, std),
        torch.tensor(value).reshape(shape),
        torch.tensor(counted).reshape(1, -1, 1),
        2 * torch.tensor(mean).reshape(shape),
        temperature,
    )


P = factors([0.0, 1.0, 5.0], 0.5, [0.5, 1.0, 9.0], [True, True, False])


def test_log_prob_is_summed_over_the_elements_that_count() -> None:
    # log N(0.5; 0, 0.5) + log N(1; 1, 0.5) = −½ − 2 log(0.5 √(2π))
    assert P.log_prob().item() == pytest.approx(-0.5 - 2 * math.log(0.5 * math.sqrt(2 * math.pi)))


def test_entropy() -> None:
    assert P.entropy().item() == pytest.approx(2 * 0.5 * math.log(2 * math.pi * math.e * 0.25))


def test_kl_with_equal_and_unequal_standard_deviations() -> None:
    same = factors([1.0, 1.0, 0.0], 0.5, [0.5, 1.0, 9.0], [True, True, False])
    assert P.kl(same, "reverse").item() == pytest.approx(1 / (2 * 0.25))  # ‖Δμ‖² / 2σ²
    assert P.kl(same, "forward").item() == pytest.approx(P.kl(same, "reverse").item())
    wide = factors([0.0, 1.0, 0.0], 1.0, [0.5, 1.0, 9.0], [True, True, False])
    reverse = 2 * (math.log(2) + 0.25 / 2 - 0.5)  # log σ_q/σ_p + σ_p²/2σ_q² − ½, for two elements
    forward = 2 * (-math.log(2) + 1 / (2 * 0.25) - 0.5)
    assert (P.kl(wide, "reverse").item(), P.kl(wide, "forward").item()) == pytest.approx((reverse, forward))


def test_distance_is_that_of_the_network_outputs() -> None:
    other = factors([1.0, 1.0, 0.0], 0.5, [0.5, 1.0, 9.0], [True, True, False])
    assert P.distance(other).item() == pytest.approx(0.5 * 2.0**2)


def test_cross_entropy_is_at_the_other_ones_mean() -> None:
    other = factors([0.5, 1.0, 0.0], 3.0, [0.0, 0.0, 0.0], [True, True, False])
    assert P.cross_entropy(other).item() == pytest.approx(-P.log_prob().item())


def test_tilt_adds_precisions_and_refuses_negative_ones() -> None:
    reference = factors([1.0, 1.0, 0.0], 1.0, [0.0, 0.0, 0.0], [True, True, False])
    # scale 1.5: precision 1.5/0.25 − 0.5/1 = 5.5; mean (1.5/0.25 · 0 − 0.5 · 1) / 5.5
    tilted = P.tilted(reference, 1.5)
    assert tilted.std[0, 0, 0, 0].item() == pytest.approx(5.5**-0.5)
    assert tilted.mean[0, 0, 0, 0].item() == pytest.approx(-0.5 / 5.5)
    assert torch.equal(P.tilted(reference, 1.0).mean, P.mean)
    with pytest.raises(SpecError, match="leaves no distribution"):
        reference.tilted(P, 1.5)  # 1.5/1 − 0.5/0.25 < 0


def test_unexecuted_decisions_have_no_factor_and_other_shapes_are_refused() -> None:
    none = replace(P, elements=torch.zeros(1, 3, 1, dtype=torch.bool))
    assert none.mask.tolist() == [[False]]
    assert none.log_prob().item() == 0
    with pytest.raises(SpecError, match="same chunk length, action dimensions and denoising steps"):
        P.kl(factors([0.0], 0.5, [0.0], [True]), "reverse")
    with pytest.raises(SpecError, match=r"temperatures: 1\.0 against 2\.0"):
        P.kl(replace(P, temperature=2.0), "reverse")
