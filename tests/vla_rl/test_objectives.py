"""Distillation and surrogate objectives: numbers by hand and identities that any implementation must satisfy."""

from __future__ import annotations

import math

import pytest
import torch

from policies.factors import CategoricalFactors
from vla_rl.objectives.distill import cross_entropy_loss, kl_loss, log_ratio_reward
from vla_rl.objectives.reduce import masked_mean
from vla_rl.objectives.surrogate import clipped_surrogate

B, F, V = 2, 3, 7
GENERATOR = torch.Generator().manual_seed(0)
STUDENT = torch.randn(B, F, V, generator=GENERATOR, dtype=torch.float64)
TEACHER = torch.randn(B, F, V, generator=GENERATOR, dtype=torch.float64)
ALL = torch.ones(B, F, dtype=torch.bool)


def factors(logits: torch.Tensor, tokens: torch.Tensor | None = None, mask: torch.Tensor = ALL) -> CategoricalFactors:
    tokens = torch.zeros(logits.shape[:2], dtype=torch.long) if tokens is None else tokens
    return CategoricalFactors(logits.log_softmax(-1), tokens, mask, 1.0)


def gradient(loss: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    return torch.autograd.grad(loss, logits)[0]


def test_masked_mean_ignores_masked_values_even_nan() -> None:
    value = torch.tensor([[1.0, 3.0, math.nan]])
    assert masked_mean(value, torch.tensor([[True, True, False]])).item() == 2.0


def test_masked_mean_refuses_broadcasting_and_empty_masks() -> None:
    with pytest.raises(ValueError, match="same shape"):
        masked_mean(torch.ones(2, 3), torch.ones(2, 1, dtype=torch.bool))
    with pytest.raises(ValueError, match="selects no factor"):
        masked_mean(torch.ones(2, 3), torch.zeros(2, 3, dtype=torch.bool))


@pytest.mark.parametrize("direction", ["reverse", "forward"])
def test_kl_has_zero_value_and_gradient_at_the_teacher(direction: str) -> None:
    logits = TEACHER.clone().requires_grad_()
    loss = kl_loss(factors(logits), factors(TEACHER), direction)  # type: ignore[arg-type]
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert gradient(loss, logits).abs().max() < 1e-12


def test_hard_cross_entropy_gradient_is_p_minus_onehot() -> None:
    logits = TEACHER.clone().requires_grad_()
    grad = gradient(cross_entropy_loss(factors(logits), factors(TEACHER)), logits)
    onehot = torch.nn.functional.one_hot(TEACHER.argmax(-1), V)
    assert torch.allclose(grad, (TEACHER.softmax(-1) - onehot) / (B * F))
    assert grad.abs().max() > 0.01  # unlike KL it does not vanish when the student equals the teacher


def test_forward_kl_gradient_is_p_minus_q() -> None:
    logits = STUDENT.clone().requires_grad_()
    grad = gradient(kl_loss(factors(logits), factors(TEACHER), "forward"), logits)
    assert torch.allclose(grad, (STUDENT.softmax(-1) - TEACHER.softmax(-1)) / (B * F))


def test_reverse_kl_gradient_by_hand() -> None:
    # d KL(p‖q) / d logit_j = p_j (log p_j − log q_j − KL)
    logits = STUDENT.clone().requires_grad_()
    grad = gradient(kl_loss(factors(logits), factors(TEACHER), "reverse"), logits)
    p, log_ratio = STUDENT.softmax(-1), STUDENT.log_softmax(-1) - TEACHER.log_softmax(-1)
    kl = (p * log_ratio).sum(-1, keepdim=True)
    assert torch.allclose(grad, p * (log_ratio - kl) / (B * F))


def test_sampled_estimator_has_the_exact_gradient_in_expectation() -> None:
    """Sum over all tokens, weighted by the student's probability, of the sampled gradient equals the exact one, per factor."""
    exact_logits = STUDENT.clone().requires_grad_()
    exact = gradient(kl_loss(factors(exact_logits), factors(TEACHER), "reverse"), exact_logits)
    expected = torch.zeros_like(exact)
    for token in range(V):
        logits = STUDENT.clone().requires_grad_()
        drawn = torch.full((B, F), token)
        student, teacher = factors(logits, drawn), factors(TEACHER, drawn)
        behaviour = student.log_prob().detach()
        loss = clipped_surrogate(student.log_prob() - behaviour, log_ratio_reward(teacher.log_prob(), behaviour), ALL, clip=0.2)
        expected += STUDENT.softmax(-1)[..., token, None] * gradient(loss, logits)
    assert torch.allclose(expected, exact, atol=1e-12)


def test_log_ratio_reward_by_hand_and_detached() -> None:
    behaviour = torch.tensor([[0.5]], requires_grad=True).log()
    reward = log_ratio_reward(torch.tensor([[0.25]]).log(), behaviour)
    assert reward.item() == pytest.approx(-math.log(2))
    assert not reward.requires_grad


@pytest.mark.parametrize(
    ("ratio", "advantage", "value", "moves"),
    [
        (1.0, 2.0, 2.0, True),
        (1.5, 2.0, 2.4, False),  # clipped at 1.2: no further gain
        (0.5, 2.0, 1.0, True),  # below the band a positive advantage still pulls up
        (1.5, -2.0, -3.0, True),  # above the band a negative advantage still pushes down
        (0.5, -2.0, -1.6, False),  # clipped at 0.8
    ],
)
def test_clipped_surrogate_by_hand(ratio: float, advantage: float, value: float, moves: bool) -> None:
    log_prob = torch.tensor([[math.log(ratio)]], requires_grad=True)
    loss = clipped_surrogate(log_prob, torch.tensor([[advantage]]), torch.ones(1, 1, dtype=torch.bool), clip=0.2)
    assert loss.item() == pytest.approx(-value)
    grad = torch.autograd.grad(loss, log_prob)[0].item()
    assert grad == pytest.approx(-ratio * advantage if moves else 0.0)


def test_unexecuted_factors_teach_nothing() -> None:
    mask = ALL.clone()
    mask[1, 2] = False
    logits = STUDENT.clone().requires_grad_()
    grad = gradient(kl_loss(factors(logits, mask=mask), factors(TEACHER), "reverse"), logits)
    assert grad[1, 2].abs().max() == 0
    assert grad[1, 1].abs().max() > 0
