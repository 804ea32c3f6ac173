"""Random draws of heads: always on the CPU, so that a seed gives the same chunk on every device; and their check."""

from __future__ import annotations

import torch

from policies.config import HeadConfig
from policies.factors import Decision
from policies.interface import Mode, PolicyError


def randn(shape: torch.Size | tuple[int, ...], generator: torch.Generator | None, device: torch.device) -> torch.Tensor:
    """Standard normal numbers."""
    return torch.randn(shape, generator=generator).to(device)


def randint(high: int, shape: tuple[int, ...], generator: torch.Generator | None, device: torch.device) -> torch.Tensor:
    """Whole numbers in 0..high−1, int64."""
    return torch.randint(high, shape, generator=generator).to(device)


def categorical(probs: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    """One index per row of `(B, F, V)` probabilities: `(B, F)` int64."""
    return torch.multinomial(probs.flatten(0, 1).cpu(), 1, generator=generator).reshape(probs.shape[:2]).to(probs.device)


def given(noise: torch.Tensor | None) -> torch.Tensor:
    """The initial noise that a head starts from. Raises `PolicyError` where the caller gave none."""
    if noise is None:
        raise PolicyError("this head starts from noise of the policy's noise_shape, and none was given")
    return noise


def executed_mode(mode: Mode, config: HeadConfig) -> Mode:
    """Greedy for a head that was given no noise, whatever is asked for: it has nothing to draw and no likelihood."""
    return mode if "log_prob" in config.supplies else "greedy"


def require_stochastic(decision: Decision) -> None:
    """Raise `PolicyError` for a greedy decision: nothing was drawn that could be scored."""
    if decision.mode == "greedy":
        raise PolicyError("a greedy decision has nothing to score; sample in mode 'stochastic', from a head with noise")


def require_finite(value: torch.Tensor) -> None:
    """Raise `PolicyError` for NaN or infinite values."""
    if not torch.isfinite(value).all():
        raise PolicyError("the policy's output is NaN or infinite (a NaN observation or diverged weights); no action was drawn")
