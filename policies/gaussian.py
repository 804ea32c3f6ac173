"""Gaussian factors: one stochastic denoising step, or a whole chunk, is one factor over K·A elements.

B batch · F factors of a decision · K chunk steps · A action dimensions (padded ones included)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch.distributions import Normal, kl_divergence

from policies.factors import Direction
from policies.interface import SpecError


@dataclass(frozen=True)
class GaussianFactors:
    """Independent Gaussians over the elements of F (noisy) chunks; only executed steps and real dimensions count."""

    mean: torch.Tensor
    """`(B, F, K, A)` in normalised action units."""
    std: torch.Tensor
    """Standard deviation, broadcast to `(B, F, K, A)`; every one positive."""
    value: torch.Tensor
    """`(B, F, K, A)` what was drawn."""
    elements: torch.Tensor
    """`(B, K, A)` bool: executed steps and real action dimensions."""
    output: torch.Tensor
    """`(B, F, K, A)` what the network predicted (velocity, noise or mean), from which the mean follows."""
    temperature: float

    @property
    def mask(self) -> torch.Tensor:
        """`(B, F)` bool: factors with at least one element that counts."""
        return self.elements.flatten(1).any(1)[:, None].expand(self.mean.shape[:2])

    def log_prob(self) -> torch.Tensor:
        """`(B, F)` log-density of what was drawn, summed over the elements that count."""
        return self._sum(Normal(self.mean, self.std, validate_args=False).log_prob(self.value))

    def entropy(self) -> torch.Tensor:
        """`(B, F)` differential entropy in nats; may be negative."""
        return self._sum(Normal(self.mean, self.std, validate_args=False).entropy())

    def kl(self, other: GaussianFactors, direction: Direction) -> torch.Tensor:
        """Exact KL per factor; both directions coincide where the standard deviations do. Raises `SpecError` for other shapes."""
        self._require_comparable(other)
        p, q = (self, other) if direction == "reverse" else (other, self)
        return self._sum(kl_divergence(Normal(p.mean, p.std, validate_args=False), Normal(q.mean, q.std, validate_args=False)))

    def cross_entropy(self, other: GaussianFactors) -> torch.Tensor:
        """−log p_self at `other`'s mean. Raises `SpecError` as `kl`."""
        self._require_comparable(other)
        return -self._sum(Normal(self.mean, self.std, validate_args=False).log_prob(other.mean))

    def distance(self, other: GaussianFactors) -> torch.Tensor:
        """½‖difference of the network outputs‖² per factor: the KL with its step weight taken out. Raises `SpecError` as `kl`."""
        self._require_comparable(other)
        return 0.5 * self._sum((self.output - other.output) ** 2)

    def tilted(self, reference: GaussianFactors, scale: float) -> GaussianFactors:
        """∝ reference · (self/reference)^scale: precisions add up to scale/σ² + (1 − scale)/σ_ref².

        Raises:
            SpecError: that precision is not positive (scale too large for a reference narrower than self).
        """
        self._require_comparable(reference)
        mine, theirs = scale / self.std**2, (1 - scale) / reference.std**2
        precision = mine + theirs
        if not (precision > 0).all():
            raise SpecError(
                f"reward scale {scale} leaves no distribution: the reference's standard deviation is too small; lower the scale"
            )
        mean, output = ((mine * a + theirs * b) / precision for a, b in ((self.mean, reference.mean), (self.output, reference.output)))
        return replace(self, mean=mean, std=precision**-0.5, output=output)

    def detach(self) -> GaussianFactors:
        """The same factors without gradient."""
        return replace(self, mean=self.mean.detach(), std=self.std.detach(), output=self.output.detach())

    @classmethod
    def cat(cls, parts: Sequence[GaussianFactors]) -> GaussianFactors:
        """Join along the batch."""
        tensors = {name: torch.cat([getattr(part, name) for part in parts]) for name in _TENSORS}
        return GaussianFactors(**tensors, temperature=parts[0].temperature)

    def __getitem__(self, index: torch.Tensor) -> GaussianFactors:
        return replace(self, **{name: getattr(self, name)[index] for name in _TENSORS})

    def _sum(self, elementwise: torch.Tensor) -> torch.Tensor:
        """`(B, F, K, A)` → `(B, F)` over the elements that count."""
        counted = self.elements[:, None].expand(elementwise.shape)
        return torch.where(counted, elementwise, torch.zeros_like(elementwise)).flatten(2).sum(2)

    def _require_comparable(self, other: GaussianFactors) -> None:
        if self.mean.shape != other.mean.shape:
            raise SpecError(
                f"factors differ in shape (B, factors, K, A): {tuple(self.mean.shape)} against {tuple(other.mean.shape)}; "
                "student and teacher need the same chunk length, action dimensions and denoising steps"
            )
        if self.temperature != other.temperature:
            raise SpecError(f"factors were computed at different temperatures: {self.temperature} against {other.temperature}")


_TENSORS = tuple(field.name for field in fields(GaussianFactors) if field.name != "temperature")
