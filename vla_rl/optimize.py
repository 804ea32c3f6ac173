"""One gradient step, refusing NaN before it can reach the weights."""

from __future__ import annotations

import torch

from vla_rl.errors import NonFiniteError


def gradient_step(optimizer: torch.optim.Optimizer, loss: torch.Tensor, clip: float) -> float:
    """Backward, clip the gradient norm and step. Returns the norm before clipping. Raises `NonFiniteError`."""
    if not torch.isfinite(loss):
        raise NonFiniteError(f"the loss is {loss.item()}; the weights keep their last finite values")
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    norm = torch.nn.utils.clip_grad_norm_(parameters, clip)
    if not torch.isfinite(norm):
        raise NonFiniteError(f"the gradient norm is {norm.item()} at loss {loss.item():.4g}; the weights keep their last finite values")
    optimizer.step()
    return norm.item()
