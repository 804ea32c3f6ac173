"""One Gaussian over the chunk: mean from the trunk, learned standard deviation per action dimension.

B batch · K chunk steps · A action dimensions · W trunk width
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.distributions import Normal

from policies.config import GaussianHeadConfig
from policies.factors import Decision
from policies.gaussian import GaussianFactors
from policies.heads.draw import randn, require_finite
from policies.heads.reduce import weighted_mean
from policies.interface import Mode


class GaussianHead(nn.Module):
    """N(mean(features), std²) with one factor: the whole chunk."""

    def __init__(self, width: int, action_dim: int, config: GaussianHeadConfig) -> None:
        super().__init__()
        self.config = config
        self.noise_shape = None
        self.mean = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, action_dim))
        self.log_std = nn.Parameter(torch.full((action_dim,), math.log(config.start_std - config.min_std)))

    @property
    def std(self) -> torch.Tensor:
        """`(A,)` in normalised action units, above the floor, so that it never stops learning."""
        return self.config.min_std + self.log_std.exp()

    def sample(
        self, features: torch.Tensor, mode: Mode, temperature: float, generator: torch.Generator | None
    ) -> tuple[torch.Tensor, Decision]:
        """The mean, or a draw around it: `(B, K, A)`. Raises `PolicyError` for NaN."""
        chunk = self.mean(features)
        require_finite(chunk)
        if mode == "stochastic":
            chunk = chunk + self.std * temperature**0.5 * randn(chunk.shape, generator, chunk.device)
        return chunk, Decision({"chunk": chunk}, mode, temperature)

    def greedy(self, features: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        """The mean `(B, K, A)`, normalised; `noise` is not used."""
        return self.mean(features)

    def factors(self, features: torch.Tensor, decision: Decision, mask: torch.Tensor) -> GaussianFactors:
        """The chunk's Gaussian; `mask` `(B, K, A)`."""
        return _factors(self.mean(features), self.std, decision, mask)

    def implied_factors(self, mean: torch.Tensor, std: float, decision: Decision, mask: torch.Tensor) -> GaussianFactors:
        """N(mean, std²) itself; `mean` `(B, K, A)` normalised."""
        return _factors(mean, torch.full_like(self.std, std), decision, mask)

    def loss(
        self, features: torch.Tensor, chunk: torch.Tensor, mask: torch.Tensor, weight: torch.Tensor, generator: torch.Generator | None
    ) -> torch.Tensor:
        """Negative log-likelihood per element; `mask` `(B, K, A)`, `weight` `(B,)`. `generator` is not used."""
        return weighted_mean(-Normal(self.mean(features), self.std, validate_args=False).log_prob(chunk), mask, weight)


def _factors(mean: torch.Tensor, std: torch.Tensor, decision: Decision, mask: torch.Tensor) -> GaussianFactors:
    scale = (std * decision.temperature**0.5).expand(mean.shape)
    return GaussianFactors(mean[:, None], scale[:, None], decision.values["chunk"][:, None], mask, mean[:, None], decision.temperature)
