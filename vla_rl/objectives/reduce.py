"""Averages over factors. B decisions of a minibatch, D of a batch, F factors."""

from __future__ import annotations

import torch

from vla_rl.config import LossMean


def masked_mean(value: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean of `value` `(B, F)` over the true elements of `mask` `(B, F)`. Raises on unequal shapes or an empty mask."""
    if value.shape != mask.shape:
        raise ValueError(f"value {tuple(value.shape)} and mask {tuple(mask.shape)} must have the same shape (no broadcasting)")
    count = mask.sum()
    if count == 0:
        raise ValueError("the mask selects no factor: every decision of the batch is unexecuted or padded")
    return torch.where(mask, value, torch.zeros_like(value)).sum() / count


def decision_weight(factors: torch.Tensor, rollout: torch.Tensor, counted: torch.Tensor, mean: LossMean) -> torch.Tensor:
    """Weights by which a plain mean over all factors becomes a mean over those of the counted decisions.

    Failed episodes last longer than successful ones. With every factor alike (DAPO, arXiv 2503.14476) they outweigh them:
    advantages that cancel over episodes then push down, on average, whatever was done. With every episode alike, its
    factors averaged first (DeepSeekMath, arXiv 2402.03300 eq. 3), they cancel.

    Args:
        factors: `(D,)` number of factors of each decision.
        rollout: `(D,)` episode of each decision.
        counted: `(D,)` bool, the same for all decisions of an episode.
        mean: `factor`, every factor alike, or `rollout`, every episode alike.

    Returns:
        `(D,)` float32, zero where not counted.
    """
    counts = factors.float() * counted
    if mean == "factor":
        return counted * factors.sum() / counts.sum().clamp_min(1)
    _, episode = rollout.unique(return_inverse=True)
    per_episode = torch.zeros(int(episode.max()) + 1, device=counts.device).index_add(0, episode, counts)
    episodes = (per_episode > 0).sum().clamp_min(1)
    return counted * factors.sum() / episodes / per_episode[episode].clamp_min(1)
