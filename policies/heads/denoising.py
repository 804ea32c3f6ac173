"""Flow matching and diffusion heads: the same denoiser and chain, with a different noise process and training target.

B batch · K chunk steps · A action dimensions · W trunk width
"""

from __future__ import annotations

import math

import torch
from torch import nn

from policies.config import DiffusionHeadConfig, FlowHeadConfig
from policies.factors import Decision
from policies.gaussian import GaussianFactors
from policies.heads import flow
from policies.heads.chain import Network, Output, chain_factors, greedy_chain, sample_chain
from policies.heads.denoiser import Denoiser
from policies.heads.diffusion import DiffusionProcess
from policies.heads.draw import executed_mode, given, randint, randn
from policies.heads.flow import FlowProcess
from policies.heads.guidance import guided_chain
from policies.heads.reduce import weighted_mean
from policies.interface import Mode, PolicyError


class DenoisingHead(nn.Module):
    """A chunk distribution made by denoising; chunks are normalised to [-1, 1]."""

    def __init__(self, width: int, heads: int, action_dim: int, chunk: int, config: FlowHeadConfig | DiffusionHeadConfig) -> None:
        super().__init__()
        self.config = config
        self.process = FlowProcess(config) if isinstance(config, FlowHeadConfig) else DiffusionProcess(config)
        self.denoiser = Denoiser(width, heads, action_dim, chunk)
        self.noise_shape = (chunk, action_dim)
        self.log_std: nn.Linear | None = None
        if isinstance(config, FlowHeadConfig) and config.noise == "learned":
            self.log_std = nn.Linear(width, action_dim)
            nn.init.zeros_(self.log_std.weight)
            nn.init.constant_(self.log_std.bias, math.log(max(config.noise_level - config.min_std, 1e-3)))

    def sample(
        self, features: torch.Tensor, mode: Mode, temperature: float, generator: torch.Generator | None
    ) -> tuple[torch.Tensor, Decision]:
        """Denoise normalised chunks `(B, K, A)`. Raises `PolicyError` for NaN."""
        noise = randn((len(features), *self.noise_shape), generator, features.device)
        mode = executed_mode(mode, self.config)
        return sample_chain(self.process, self.network(features), noise, mode, self.config.stochastic, temperature, generator)

    def greedy(self, features: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        """The normalised chunk `(B, K, A)` that the deterministic chain makes of `noise` `(B, K, A)`."""
        return greedy_chain(self.process, self.network(features), given(noise))

    @property
    def takes_prefix(self) -> bool:
        """Whether chunks can be `guided`."""
        return isinstance(self.process, FlowProcess)

    def guided(self, features: torch.Tensor, noise: torch.Tensor, prefix: torch.Tensor, committed: int) -> torch.Tensor:
        """The greedy chunk, drawn to `prefix` `(B, P, A)`, normalised."""
        assert isinstance(self.process, FlowProcess)
        return guided_chain(self.process, self.network(features), noise, prefix, committed)

    def factors(self, features: torch.Tensor, decision: Decision, mask: torch.Tensor) -> GaussianFactors:
        """Transition of each stochastic step; `mask` `(B, K, A)`."""
        return chain_factors(self.process, self.network(features), decision, mask)

    def implied_factors(self, mean: torch.Tensor, std: float, decision: Decision, mask: torch.Tensor) -> GaussianFactors:
        """Transitions of the exact denoiser of chunks N(mean, std²); `mean` `(B, K, A)` normalised.

        Raises:
            PolicyError: learned noise, about which the expert's chunk says nothing.
        """
        if self.log_std is not None:
            raise PolicyError("a chunk does not imply a learned noise level")
        index = decision.values["index"]
        step = iter(range(index.shape[1]))

        def exact(x: torch.Tensor, time: torch.Tensor) -> Output:
            return Output(self.process.implied(x, index[:, next(step)], mean, std))

        return chain_factors(self.process, exact, decision, mask)

    def loss(
        self, features: torch.Tensor, chunk: torch.Tensor, mask: torch.Tensor, weight: torch.Tensor, generator: torch.Generator | None
    ) -> torch.Tensor:
        """Squared error of the predicted velocity or noise at random times; `mask` `(B, K, A)`, `weight` `(B,)`."""
        noise = randn(chunk.shape, generator, chunk.device)
        if isinstance(self.process, FlowProcess):
            time = flow.training_time(len(chunk), generator, chunk.device)
            x, target = flow.training_pair(chunk, noise, time)
        else:
            timestep = randint(self.process.config.train_steps, (len(chunk),), generator, chunk.device)
            x, target, time = self.process.noisy(chunk, noise, timestep), noise, self.process.training_time(timestep)
        return weighted_mean((self.denoiser(features, x, time) - target) ** 2, mask, weight)

    def network(self, features: torch.Tensor) -> Network:
        """What predicts the velocity or the noise of chunks at `features` `(B, K, W)`."""
        std = None
        if self.log_std is not None:
            std = self.config.min_std + self.log_std(features).exp()
        return lambda x, time: Output(self.denoiser(features, x, time), std)
