"""Decisions and their factors: the closed-form distributions that every objective works on.

B batch · F factors of a decision · V bins · K chunk steps · A action dimensions

`Factors` is what objectives see; categorical factors are here, Gaussian ones in `policies.gaussian`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, Self

import torch

from policies.interface import Mode, SpecError

Direction = Literal["reverse", "forward"]


@dataclass(frozen=True)
class Decision:
    """What a policy drew for B observations, enough to score the same draw again under any policy of the family."""

    values: dict[str, torch.Tensor]
    """Head-specific tensors `(B, ...)`; the token head stores `tokens` `(B, F)` int64."""
    mode: Mode
    temperature: float
    """Temperature that the draw used; scoring uses the same one."""

    def __len__(self) -> int:
        return len(next(iter(self.values.values())))

    def __getitem__(self, index: torch.Tensor) -> Decision:
        return Decision({name: value[index] for name, value in self.values.items()}, self.mode, self.temperature)

    @property
    def device(self) -> torch.device:
        """Where the values are."""
        return next(iter(self.values.values())).device

    def to(self, device: torch.device) -> Decision:
        """The same draw on a device."""
        return replace(self, values={name: value.to(device) for name, value in self.values.items()})

    @staticmethod
    def cat(decisions: Sequence[Decision]) -> Decision:
        """Join decisions that were made in the same mode at the same temperature."""
        first = decisions[0]
        if any((d.mode, d.temperature) != (first.mode, first.temperature) for d in decisions):
            raise ValueError("decisions of different mode or temperature cannot be joined")
        return Decision({name: torch.cat([d.values[name] for d in decisions]) for name in first.values}, first.mode, first.temperature)


class Factors(Protocol):
    """Distributions of the F factors of B decisions. All results are `(B, F)`; apply `mask` when averaging."""

    @property
    def mask(self) -> torch.Tensor:
        """`(B, F)` bool: factors that took part (executed steps, real action dimensions)."""
        ...

    def log_prob(self) -> torch.Tensor:
        """Log-probability of each factor's drawn value, summed (never averaged) over the factor's elements."""
        ...

    def entropy(self) -> torch.Tensor:
        """Entropy of each factor."""
        ...

    def kl(self, other: Self, direction: Direction) -> torch.Tensor:
        """`reverse`: KL(self‖other); `forward`: KL(other‖self)."""
        ...

    def cross_entropy(self, other: Self) -> torch.Tensor:
        """−log p_self at the most likely value of `other`."""
        ...

    def tilted(self, reference: Self, scale: float) -> Self:
        """The distributions ∝ reference · (self/reference)^scale (G-OPD, arXiv 2602.12125): beyond self for scale > 1.

        Raises `SpecError` where that is not a distribution.
        """
        ...

    def detach(self) -> Self:
        """The same factors without gradient."""
        ...

    def __getitem__(self, index: torch.Tensor) -> Self: ...

    @classmethod
    def cat(cls, parts: Sequence[Self]) -> Self:
        """Join factors of the same kind along the batch."""
        ...


@dataclass(frozen=True)
class CategoricalFactors:
    """Independent categorical factors: one action dimension at one chunk step is one factor (F = K·A)."""

    log_probs: torch.Tensor
    """`(B, F, V)` normalised log-probabilities."""
    tokens: torch.Tensor
    """`(B, F)` int64 drawn bins."""
    mask: torch.Tensor
    temperature: float

    def log_prob(self) -> torch.Tensor:
        """`(B, F)` log-probability of the drawn bins."""
        return self.log_probs.gather(-1, self.tokens[..., None])[..., 0]

    def entropy(self) -> torch.Tensor:
        """`(B, F)` entropy in nats, in [0, log V]."""
        return torch.distributions.Categorical(logits=self.log_probs, validate_args=False).entropy()

    def kl(self, other: CategoricalFactors, direction: Direction) -> torch.Tensor:
        """Exact full-vocabulary KL per factor. Raises `SpecError` for other bins, factors or temperature."""
        self._require_comparable(other)
        p, q = (self.log_probs, other.log_probs) if direction == "reverse" else (other.log_probs, self.log_probs)
        return (p.exp() * (p - q)).sum(-1)

    def cross_entropy(self, other: CategoricalFactors) -> torch.Tensor:
        """−log p_self at `other`'s most likely bin. Raises `SpecError` as `kl`."""
        self._require_comparable(other)
        return -self.log_probs.gather(-1, other.log_probs.argmax(-1, keepdim=True))[..., 0]

    def tilted(self, reference: CategoricalFactors, scale: float) -> CategoricalFactors:
        """∝ reference · (self/reference)^scale, normalised over the bins."""
        self._require_comparable(reference)
        log_probs = (scale * self.log_probs + (1 - scale) * reference.log_probs).log_softmax(-1)
        return replace(self, log_probs=log_probs)

    def detach(self) -> CategoricalFactors:
        """The same factors without gradient."""
        return replace(self, log_probs=self.log_probs.detach())

    @classmethod
    def cat(cls, parts: Sequence[CategoricalFactors]) -> CategoricalFactors:
        """Join along the batch."""
        log_probs, tokens, mask = (torch.cat([getattr(part, name) for part in parts]) for name in ("log_probs", "tokens", "mask"))
        return CategoricalFactors(log_probs, tokens, mask, parts[0].temperature)

    def __getitem__(self, index: torch.Tensor) -> CategoricalFactors:
        return CategoricalFactors(self.log_probs[index], self.tokens[index], self.mask[index], self.temperature)

    def _require_comparable(self, other: CategoricalFactors) -> None:
        if self.log_probs.shape != other.log_probs.shape:
            raise SpecError(
                f"factors differ in shape (B, factors, bins): {tuple(self.log_probs.shape)} against {tuple(other.log_probs.shape)}; "
                "student and teacher need the same chunk length, action dimensions and bins"
            )
        if self.temperature != other.temperature:
            raise SpecError(f"factors were computed at different temperatures: {self.temperature} against {other.temperature}")
