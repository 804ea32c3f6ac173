"""Distillation and surrogate objectives: numbers by hand and identities that any implementation must satisfy."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from policies.factors import CategoricalFactors
from vla_rl.objectives.distill import cross_entropy_loss, kl_loss, log_ratio_reward, reward_to_go, sampled_reward
from vla_rl.objectives.reduce import decision_weight, masked_mean
from vla_rl.objectives.surrogate import clipped_surrogate, log_ratio

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


def test_decision_weights_by_hand() -> None:
    """Three episodes of 1, 2 and 1 decisions with 4, 4 + 2 and 4 factors; the last one does not count."""
    factors, rollout = torch.tensor([4, 4, 2, 4]), torch.tensor([7, 8, 8, 9])
    counted = torch.tensor([True, True, True, False])
    by_factor = decision_weight(factors, rollout, counted, "factor")
    assert by_factor.tolist() == pytest.approx([1.4, 1.4, 1.4, 0.0])  # 14 factors in all, 10 count
    by_rollout = decision_weight(factors, rollout, counted, "rollout")
    assert by_rollout.tolist() == pytest.approx([14 / 2 / 4, 14 / 2 / 6, 14 / 2 / 6, 0.0])
    value = torch.tensor([1.0, 2.0, 5.0, 100.0])  # of every factor of the decision
    assert ((value * by_rollout * factors).sum() / 14).item() == pytest.approx((1.0 + (2 * 4 + 5 * 2) / 6) / 2)
    assert decision_weight(factors, rollout, counted & False, "rollout").sum() == 0


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


def test_vopd_baseline_has_mean_zero_and_leaves_the_gradient() -> None:
    """arXiv 2605.07865: A = log π_T − log π + KL(π‖π_T) has expectation 0, and E[A ∇log π] = −∇KL."""
    exact_logits = STUDENT.clone().requires_grad_()
    exact = gradient(kl_loss(factors(exact_logits), factors(TEACHER), "reverse"), exact_logits)
    kl = factors(STUDENT).kl(factors(TEACHER), "reverse")
    expected, mean = torch.zeros_like(exact), torch.zeros(B, F, dtype=torch.float64)
    for token in range(V):
        logits = STUDENT.clone().requires_grad_()
        drawn = torch.full((B, F), token)
        student, weight = factors(logits, drawn), STUDENT.softmax(-1)[..., token]
        advantage = log_ratio_reward(factors(TEACHER, drawn).log_prob(), student.log_prob()) + kl
        mean += weight * advantage
        loss = clipped_surrogate(student.log_prob() - student.log_prob().detach(), advantage, ALL, clip=0.2)
        expected += weight[..., None] * gradient(loss, logits)
    assert mean.abs().max() < 1e-12
    assert torch.allclose(expected, exact, atol=1e-12)


def test_reward_scale_one_is_the_teacher_for_every_reference() -> None:
    for seed in (1, 2):
        reference = factors(torch.randn(B, F, V, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))
        assert torch.allclose(factors(TEACHER).tilted(reference, 1.0).log_probs, factors(TEACHER).log_probs)


def test_tilted_teacher_is_where_the_scaled_reward_is_flat() -> None:
    """arXiv 2602.12125: at π* ∝ π_ref (π_T/π_ref)^λ the advantage −[log π/π_ref − λ log π_T/π_ref] is one constant."""
    reference, scale = factors(STUDENT), 1.25
    optimum = factors(TEACHER).tilted(reference, scale).log_probs
    advantage = -((optimum - reference.log_probs) - scale * (factors(TEACHER).log_probs - reference.log_probs))
    assert (advantage - advantage.mean(-1, keepdim=True)).abs().max() < 1e-12
    assert optimum.exp().sum(-1).allclose(torch.ones(B, F, dtype=torch.float64))


@pytest.mark.parametrize(
    ("credit", "baseline", "level", "full"),
    [
        ("to_go", "none", "factor", True),
        ("to_go", "kl", "factor", True),
        ("immediate", "none", "factor", False),
        ("immediate", "kl", "factor", False),
        ("immediate", "none", "chunk", True),
    ],
)
def test_which_credit_gives_the_full_gradient_of_a_two_step_chain(credit: Any, baseline: Any, level: Any, full: bool) -> None:
    """Brute force over both draws of a chain whose second distribution depends on the first draw."""
    generator = torch.Generator().manual_seed(3)
    first, second, q_first, q_second = (
        torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((3,), (3, 3), (3,), (3, 3))
    )
    q1, q2 = q_first.log_softmax(-1), q_second.log_softmax(-1)

    def chain_kl(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        p1, p2 = first.log_softmax(-1), second.log_softmax(-1)
        return (p1.exp() * (p1 - q1 + (p2.exp() * (p2 - q2)).sum(-1))).sum()

    leaves = [first.clone().requires_grad_(), second.clone().requires_grad_()]
    exact = torch.autograd.grad(chain_kl(*leaves), leaves)
    mask = torch.ones(1, 2, dtype=torch.bool)
    total = [torch.zeros_like(leaf) for leaf in leaves]
    for a in range(3):
        for b in range(3):
            leaves = [first.clone().requires_grad_(), second.clone().requires_grad_()]
            tokens = torch.tensor([[a, b]])
            student = factors(torch.stack([leaves[0], leaves[1][a]])[None], tokens, mask)
            teacher = factors(torch.stack([q_first, q_second[a]])[None], tokens, mask)
            behaviour = student.log_prob().detach()
            reward = sampled_reward(student, teacher, behaviour, baseline, credit)
            ratio = log_ratio(student.log_prob(), behaviour, mask, level)
            loss = 2 * clipped_surrogate(ratio, reward, mask, clip=0.2)  # sum, not mean
            weight = behaviour.sum().exp()
            total = [t + weight * g for t, g in zip(total, torch.autograd.grad(loss, leaves), strict=True)]
    assert torch.allclose(total[0], exact[0], atol=1e-12) == full
    assert torch.allclose(total[1], exact[1], atol=1e-12) == (level == "factor" or baseline == "none")


def test_ratio_levels_by_hand_with_ragged_factors() -> None:
    new, old = torch.tensor([[0.1, 0.3, 9.0], [0.2, 0.2, 0.2]]), torch.zeros(2, 3)
    mask = torch.tensor([[True, True, False], [True, True, True]])
    assert log_ratio(new, old, mask, "factor").tolist() == [pytest.approx([0.1, 0.3, 0.0]), pytest.approx([0.2] * 3)]
    assert log_ratio(new, old, mask, "chunk")[:, 0].tolist() == pytest.approx([0.4, 0.6])
    assert log_ratio(new, old, mask, "chunk_mean")[:, 0].tolist() == pytest.approx([0.2, 0.2])
    assert reward_to_go(new, mask)[0].tolist() == pytest.approx([0.4, 0.3, 0.0])
