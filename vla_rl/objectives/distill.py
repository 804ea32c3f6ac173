"""Distillation objectives between a student's and a teacher's factors (B decisions, F factors).

Full-distribution losses take `Factors`; the single-sample estimator is a reward that goes through a policy-gradient
surrogate (`vla_rl.objectives.surrogate`). Source: VLA-OPD, arXiv 2603.26666, eq. 6 and 7; the exact form is the same
expectation without action-sampling variance, because parallel tokens are independent given the observation.
"""

from __future__ import annotations

import torch

from policies.factors import Direction, Factors
from vla_rl.objectives.reduce import masked_mean


def kl_loss(student: Factors, teacher: Factors, direction: Direction) -> torch.Tensor:
    """Mean exact KL per factor: `reverse` KL(student‖teacher), `forward` KL(teacher‖student). The teacher gets no gradient."""
    return masked_mean(student.kl(teacher.detach(), direction), student.mask)


def cross_entropy_loss(student: Factors, teacher: Factors) -> torch.Tensor:
    """Mean −log π_student at the teacher's most likely value; its gradient by the logits is p − onehot."""
    return masked_mean(student.cross_entropy(teacher.detach()), student.mask)


def log_ratio_reward(teacher_log_prob: torch.Tensor, behaviour_log_prob: torch.Tensor) -> torch.Tensor:
    """R = log π_T(a) − log π_rollout(a) per factor, `(B, F)`, detached (eq. 6). Not whitened, no baseline, no reward-to-go."""
    return (teacher_log_prob - behaviour_log_prob).detach()
