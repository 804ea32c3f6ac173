"""One gradient step, refusing NaN before it can reach the weights, and its learning rate."""

from __future__ import annotations

import math

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


def schedule(step: int, steps: int, warmup: int) -> float:
    """Factor on the learning rate at step `step` of `steps`: linear warm-up, then a cosine to zero."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of all parameters."""
    for group in optimizer.param_groups:
        group["lr"] = lr
