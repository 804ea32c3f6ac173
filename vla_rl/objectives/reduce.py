"""Averages over factors. B decisions, F factors."""

from __future__ import annotations

import torch


def masked_mean(value: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean of `value` `(B, F)` over the true elements of `mask` `(B, F)`. Raises on unequal shapes or an empty mask."""
    if value.shape != mask.shape:
        raise ValueError(f"value {tuple(value.shape)} and mask {tuple(mask.shape)} must have the same shape (no broadcasting)")
    count = mask.sum()
    if count == 0:
        raise ValueError("the mask selects no factor: every decision of the batch is unexecuted or padded")
    return torch.where(mask, value, torch.zeros_like(value)).sum() / count
