"""Gradient steps: minibatches over a rollout batch, refusing NaN before it can reach the weights, and the learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch

from vla_rl.config import OnPolicyConfig
from vla_rl.errors import NonFiniteError


class Loss(NamedTuple):
    """A scalar loss and what to log about it."""

    value: torch.Tensor
    metrics: dict[str, float]


def gradient_passes(
    rows: torch.Tensor,
    loss: Callable[[torch.Tensor], Loss],
    optimizer: torch.optim.Optimizer,
    config: OnPolicyConfig,
    accumulate: int,
    generator: torch.Generator,
    size: torch.Tensor,
) -> dict[str, float]:
    """Go through `rows` `(n,)` int64 `config.passes` times in shuffled minibatches. Returns each metric's mean over the steps.

    `size` `(D,)` says how many terms each decision of the batch contributes to the mean that `loss` returns.
    """
    steps: list[dict[str, float]] = []
    for _ in range(config.passes):
        for index in rows[torch.randperm(len(rows), generator=generator)].split(config.minibatch):
            steps.append(gradient_step(optimizer, loss, index.chunk(accumulate), config.grad_clip, size))
    logged = {name: [step[name] for step in steps if name in step] for name in dict.fromkeys(name for step in steps for name in step)}
    return {name: sum(values) / len(values) for name, values in logged.items()}


def gradient_step(
    optimizer: torch.optim.Optimizer,
    loss: Callable[[torch.Tensor], Loss],
    parts: tuple[torch.Tensor, ...],
    clip: float,
    size: torch.Tensor,
) -> dict[str, float]:
    """One step on the mean loss of `parts`, weighted by their `size` `(D,)`: backward part by part, then clip the gradient norm.

    Returns the metrics with the loss and the norm before clipping. Raises `NonFiniteError` and leaves the weights alone.
    """
    optimizer.zero_grad(set_to_none=True)
    sizes = [float(size[part].sum()) for part in parts]
    total: dict[str, float] = {}
    seen: dict[str, float] = {}
    for part, terms in zip(parts, sizes, strict=True):
        value, metrics = loss(part)
        if not torch.isfinite(value):
            raise NonFiniteError(f"the loss is {value.item()}; the weights keep their last finite values")
        share = terms / sum(sizes)
        (value * share).backward()
        for name, number in ({"loss": value.item()} | metrics).items():
            seen[name] = seen.get(name, 0.0) + share
            total[name] = total.get(name, 0.0) + share * number
    total = {name: number / seen[name] for name, number in total.items()}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    norm = torch.nn.utils.clip_grad_norm_(parameters, clip)
    if not torch.isfinite(norm):
        raise NonFiniteError(f"the gradient norm is {norm.item()} at loss {total['loss']:.4g}; the weights keep their last finite values")
    optimizer.step()
    return total | {"grad_norm": norm.item()}


def schedule(step: int, steps: int, warmup: int) -> float:
    """Factor on the learning rate at step `step` of `steps`: linear warm-up, then a cosine to zero."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set the learning rate of every parameter group to `factor` times its peak (`initial_lr`)."""
    for group in optimizer.param_groups:
        group["lr"] = factor * group["initial_lr"]


def adamw(groups: dict[float, list[torch.nn.Parameter]], weight_decay: float) -> torch.optim.AdamW:
    """AdamW over the trainable parameters, by peak learning rate."""
    chosen = [{"params": [p for p in parameters if p.requires_grad], "lr": lr, "initial_lr": lr} for lr, parameters in groups.items()]
    return torch.optim.AdamW(chosen, weight_decay=weight_decay)
