"""Distillation objectives between a student's and a teacher's factors (B decisions, F factors).

Full-distribution losses take `Factors`; the single-sample estimator is a reward that goes through a policy-gradient
surrogate (`vla_rl.objectives.surrogate`). Source: VLA-OPD, arXiv 2603.26666, eq. 6 and 7. The exact form is the same
expectation without sampling variance where factors are independent given the observation (parallel tokens, one stochastic
denoising step); for a chain of factors both drop the gradient through later ones, unless rewards are summed `to_go` or the
importance ratio is that of the whole chunk.
"""

from __future__ import annotations

from typing import Literal

import torch

from policies.factors import Direction, Factors
from policies.gaussian import GaussianFactors
from vla_rl.objectives.reduce import masked_mean


def kl_loss(student: Factors, teacher: Factors, direction: Direction) -> torch.Tensor:
    """Mean exact KL per factor: `reverse` KL(student‖teacher), `forward` KL(teacher‖student). The teacher gets no gradient."""
    return masked_mean(student.kl(teacher.detach(), direction), student.mask)


def cross_entropy_loss(student: Factors, teacher: Factors) -> torch.Tensor:
    """Mean −log π_student at the teacher's most likely value; its gradient by the logits is p − onehot."""
    return masked_mean(student.cross_entropy(teacher.detach()), student.mask)


def distance_loss(student: GaussianFactors, teacher: GaussianFactors) -> torch.Tensor:
    """Mean ½‖difference of network outputs‖² per factor: the KL of denoising steps, each weighted alike."""
    return masked_mean(student.distance(teacher.detach()), student.mask)


def log_ratio_reward(teacher_log_prob: torch.Tensor, behaviour_log_prob: torch.Tensor) -> torch.Tensor:
    """R = log π_T(a) − log π_rollout(a) per factor, `(B, F)`, detached (eq. 6). Not whitened, no baseline, no reward-to-go."""
    return (teacher_log_prob - behaviour_log_prob).detach()


def sampled_reward(
    student: Factors,
    teacher: Factors,
    behaviour_log_prob: torch.Tensor,
    baseline: Literal["none", "kl"],
    credit: Literal["immediate", "to_go"],
) -> torch.Tensor:
    """The log-ratio reward `(B, F)` with its credit and baseline, detached.

    The baseline of a factor is its own expected reward, −KL(student‖teacher) (vOPD, arXiv 2605.07865). It is added after
    rewards are summed: a later factor's KL depends on the draw before it and is no baseline for that draw.
    """
    reward = log_ratio_reward(teacher.log_prob(), behaviour_log_prob)
    if credit == "to_go":
        reward = reward_to_go(reward, student.mask)
    return reward + student.detach().kl(teacher.detach(), "reverse") if baseline == "kl" else reward


def reward_to_go(reward: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Sum of the rewards `(B, F)` of each factor and all later ones of the same decision, where `mask` holds."""
    kept = torch.where(mask, reward, 0)
    return kept.flip(1).cumsum(1).flip(1)
