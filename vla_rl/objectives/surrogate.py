"""Policy-gradient surrogates on factors (B decisions, F factors)."""

from __future__ import annotations

from typing import Literal

import torch

from vla_rl.objectives.reduce import masked_mean

RatioLevel = Literal["factor", "chunk", "chunk_mean"]


def log_ratio(log_prob: torch.Tensor, behaviour_log_prob: torch.Tensor, mask: torch.Tensor, level: RatioLevel = "factor") -> torch.Tensor:
    """Log π/π_rollout, `(B, F)`: of each factor, or the sum or mean over a decision's factors repeated for each of them."""
    difference = torch.where(mask, log_prob - behaviour_log_prob.detach(), 0)
    if level == "factor":
        return difference
    joint = difference.sum(1, keepdim=True)
    if level == "chunk_mean":
        joint = joint / mask.sum(1, keepdim=True).clamp_min(1)
    return joint.expand_as(difference)


def clipped_surrogate(
    log_ratio: torch.Tensor, advantage: torch.Tensor, mask: torch.Tensor, clip: float, clip_high: float | None = None
) -> torch.Tensor:
    """−mean min(ρA, clip(ρ, 1−ε, 1+ε_high)A) with ρ = π/π_rollout (PPO, arXiv 1707.06347 eq. 7). All `(B, F)`.

    At ρ = 1 its gradient is −A ∇log π, the plain policy gradient of VLA-OPD eq. 7. ε_high is ε if not given.
    """
    ratio = log_ratio.exp()
    clipped = ratio.clamp(1 - clip, 1 + (clip if clip_high is None else clip_high))
    return -masked_mean(torch.minimum(ratio * advantage, clipped * advantage), mask)
