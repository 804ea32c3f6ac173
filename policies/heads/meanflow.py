"""MeanFlow: the network learns the average velocity u(z, r, t) over [r, t], so that one call turns noise into a chunk.

    z_t = (1 − t) chunk + t noise,  v = noise − chunk,  chunk = noise − u(noise, 0, 1)
    target: sg[v̂ − (t − r) (v̂ ∂_z u + ∂_t u)],  v̂ = ωv + (1 − ω) sg[u(z, t, t)]

The derivative is one Jacobian-vector product. Loss: squared error times sg[(its mean per chunk + 10⁻³)^−½]
(MeanFlow, arXiv 2505.13447; loss, ω and times as MP1, arXiv 2507.10543). In training, Gaussian noise on the chunk explores
and gives it a likelihood given the initial noise, which is the same for every policy.

B batch · K chunk steps · A action dimensions · W trunk width
"""

from __future__ import annotations

import torch
from torch import nn

from policies.config import MeanFlowHeadConfig
from policies.factors import Decision
from policies.gaussian import GaussianFactors
from policies.heads.denoiser import Denoiser
from policies.heads.draw import executed_mode, given, randn, require_finite, require_stochastic
from policies.heads.reduce import weighted_mean
from policies.interface import Mode


class MeanFlowHead(nn.Module):
    """One-step generation; one factor: the chunk around its noise-free value."""

    def __init__(self, width: int, heads: int, action_dim: int, chunk: int, config: MeanFlowHeadConfig) -> None:
        super().__init__()
        self.config = config
        self.velocity = Denoiser(width, heads, action_dim, chunk, times=2)
        self.noise_shape = (chunk, action_dim)

    def sample(
        self, features: torch.Tensor, mode: Mode, temperature: float, generator: torch.Generator | None
    ) -> tuple[torch.Tensor, Decision]:
        """One network call: normalised chunks `(B, K, A)`. Raises `PolicyError` for NaN."""
        noise = randn((len(features), *self.noise_shape), generator, features.device)
        chunk = self._mean(features, noise)
        require_finite(chunk)
        mode = executed_mode(mode, self.config)
        if mode == "stochastic":
            chunk = chunk + self.config.exploration_std * temperature**0.5 * randn(chunk.shape, generator, chunk.device)
        return chunk, Decision({"noise": noise, "chunk": chunk}, mode, temperature)

    def greedy(self, features: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        """The normalised chunk `(B, K, A)` that one network call makes of `noise` `(B, K, A)`."""
        return self._mean(features, given(noise))

    def factors(self, features: torch.Tensor, decision: Decision, mask: torch.Tensor) -> GaussianFactors:
        """The chunk's Gaussian given the decision's initial noise; `mask` `(B, K, A)`. Raises `PolicyError` for a greedy decision."""
        require_stochastic(decision)
        return self._factors(self._mean(features, decision.values["noise"]), decision, mask)

    def implied_factors(self, mean: torch.Tensor, std: float, decision: Decision, mask: torch.Tensor) -> GaussianFactors:
        """Chunks N(mean, std²) as a flow of the same noise: mean + std · noise, which is exact for a Gaussian."""
        return self._factors(mean + std * decision.values["noise"], decision, mask)

    def loss(
        self, features: torch.Tensor, chunk: torch.Tensor, mask: torch.Tensor, weight: torch.Tensor, generator: torch.Generator | None
    ) -> torch.Tensor:
        """The MeanFlow identity at random times r ≤ t; `mask` `(B, K, A)`, `weight` `(B,)`."""
        noise = randn(chunk.shape, generator, chunk.device)
        r, t = self._times(len(chunk), generator, chunk.device)
        z, velocity = (1 - t[:, None, None]) * chunk + t[:, None, None] * noise, noise - chunk

        def average(z: torch.Tensor, r: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            return self.velocity(features, z, r, t)

        if self.config.guidance != 1:
            with torch.no_grad():
                velocity = self.config.guidance * velocity + (1 - self.config.guidance) * average(z, t, t)
        predicted, slope = torch.func.jvp(average, (z, r, t), (velocity, torch.zeros_like(r), torch.ones_like(t)))[:2]
        error = (predicted - (velocity - (t - r)[:, None, None] * slope).detach()) ** 2
        size = (error.detach() * mask).flatten(1).sum(1) / mask.flatten(1).sum(1).clamp_min(1)
        return weighted_mean(error * (size + 1e-3)[:, None, None] ** -0.5, mask, weight)

    def _mean(self, features: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        zero = torch.zeros(len(noise), device=noise.device)
        return noise - self.velocity(features, noise, zero, zero + 1)

    def _factors(self, mean: torch.Tensor, decision: Decision, mask: torch.Tensor) -> GaussianFactors:
        std = torch.full_like(mean, self.config.exploration_std * decision.temperature**0.5)
        return GaussianFactors(mean[:, None], std[:, None], decision.values["chunk"][:, None], mask, mean[:, None], decision.temperature)

    def _times(self, batch: int, generator: torch.Generator | None, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Times `(B,)` r ≤ t: two draws of sigmoid(N(−0.4, 1)), sorted; a share of the pairs has r = t."""
        low, high = (torch.randn(2, batch, generator=generator) - 0.4).sigmoid().sort(0).values
        same = torch.rand(batch, generator=generator) < self.config.same_time
        return torch.where(same, high, low).to(device), high.to(device)
