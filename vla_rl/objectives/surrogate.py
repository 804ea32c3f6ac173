"""Policy-gradient surrogates on factors (B decisions, F factors)."""

from __future__ import annotations

import torch

from vla_rl.objectives.reduce import masked_mean


def clipped_surrogate(
    log_prob: torch.Tensor, behaviour_log_prob: torch.Tensor, advantage: torch.Tensor, mask: torch.Tensor, clip: float
) -> torch.Tensor:
    """−mean min(ρA, clip(ρ, 1−ε, 1+ε)A) with ρ = π/π_rollout per factor (PPO, arXiv 1707.06347 eq. 7).

    At ρ = 1 its gradient is −A ∇log π, the plain policy gradient of VLA-OPD eq. 7. All arguments are `(B, F)`.
    """
    ratio = (log_prob - behaviour_log_prob.detach()).exp()
    gain = torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)
    return -masked_mean(gain, mask)
