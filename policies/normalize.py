"""Strict affine normalisation, owned by the policy's weights as buffers."""

from __future__ import annotations

import torch
from torch import nn

from policies.interface import PolicySpec, SpecError


class Affine(nn.Module):
    """Map a physical range [low, high] to [-1, 1] and back; nothing is clipped."""

    def __init__(self, name: str, low: tuple[float, ...], high: tuple[float, ...]) -> None:
        super().__init__()
        if len(low) == 0 or len(low) != len(high):
            raise SpecError(f"normalisation statistics of '{name}' are missing or unequal: {len(low)} low, {len(high)} high values")
        if any(not a < b for a, b in zip(low, high, strict=True)):
            raise SpecError(f"normalisation range of '{name}' is empty: low {low}, high {high}; every low must be below its high")
        self.low: torch.Tensor
        self.high: torch.Tensor
        self.register_buffer("low", torch.tensor(low, dtype=torch.float32))
        self.register_buffer("high", torch.tensor(high, dtype=torch.float32))

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        """`(..., S)` physical units → normalised."""
        return 2 * (value - self.low) / (self.high - self.low) - 1

    def inverse(self, value: torch.Tensor) -> torch.Tensor:
        """`(..., S)` normalised → physical units."""
        return (value + 1) / 2 * (self.high - self.low) + self.low


class Normalizer(nn.Module):
    """One `Affine` per state entry and one for the action. A key that is not declared raises."""

    def __init__(self, spec: PolicySpec) -> None:
        super().__init__()
        ranges = {entry.name: (entry.low, entry.high) for entry in spec.of_kind("state")}
        ranges["action"] = (spec.action.low, spec.action.high)
        self.affine = nn.ModuleDict({_key(name): Affine(name, *low_high) for name, low_high in ranges.items()})

    def __getitem__(self, name: str) -> Affine:
        """The `Affine` of an entry, or of "action". Raises `SpecError` for a name without statistics."""
        if _key(name) not in self.affine:
            raise SpecError(f"no normalisation statistics for '{name}'; there are {[key.replace('/', '.') for key in self.affine]}")
        affine = self.affine[_key(name)]
        assert isinstance(affine, Affine)
        return affine


def _key(name: str) -> str:
    return name.replace(".", "/")  # module names cannot hold dots
