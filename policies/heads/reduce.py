"""The average of supervised losses."""

from __future__ import annotations

import torch


def weighted_mean(value: torch.Tensor, mask: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Mean of `value` `(B, K, A)` over the true elements of `mask` `(B, K, A)`, rows weighted by `weight` `(B,)`. Scalar."""
    share = mask * weight[:, None, None]
    return (value * share).sum() / share.sum()
