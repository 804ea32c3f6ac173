"""Flow matching as a noise process: time τ runs from 1 (noise) to 0 (chunk), x_τ = (1 − τ) chunk + τ noise.

The network predicts the velocity v = noise − chunk; x̂0 = x − τv and x̂1 = x + (1 − τ)v are its guesses of both ends.
Transitions are those of πRL and RLinf (arXiv 2510.25889), with step δ:

    ODE       mean (1−τ+δ) x̂0 + (τ−δ) x̂1 = x − δv
    Flow-SDE  mean (1−τ+δ) x̂0 + (τ−δ − σ²δ/2τ) x̂1,  std σ√δ,  σ = s √(τ/(1−τ)) (the first step takes the next τ below)
    CPS       mean (1−τ+δ) x̂0 + (τ−δ) cos(πs/2) x̂1,  std (τ−δ) sin(πs/2)
    learned   mean of the ODE, std from the network (ReinFlow, arXiv 2505.22094)

Flow-SDE preserves the marginal distributions of the ODE as steps grow; CPS and learned noise do not.

B batch · S denoising steps · K chunk steps · A action dimensions
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from policies.config import FlowHeadConfig
from policies.heads.chain import Output, Transition


@dataclass(frozen=True)
class FlowProcess:
    """The chain of a flow head (see `policies.heads.chain.Process`)."""

    config: FlowHeadConfig

    @property
    def steps(self) -> int:
        """S."""
        return self.config.steps

    def time(self, index: torch.Tensor) -> torch.Tensor:
        """τ at steps `index` `(B,)`: 1 at step 0, 1/S at the last; rounded once, as LeRobot's integrator does."""
        return (1 - index.double() / self.steps).float()

    def deterministic(self, x: torch.Tensor, index: torch.Tensor, output: Output) -> torch.Tensor:
        """An Euler step of the ODE."""
        return x + (-1 / self.steps) * output.value

    def transition(self, x: torch.Tensor, index: torch.Tensor, output: Output) -> Transition:
        """Mean and standard deviation of the stochastic step."""
        tau, delta, level = self.time(index)[:, None, None], 1 / self.steps, self.config.noise_level
        if self.config.noise == "learned":
            assert output.std is not None
            return Transition(x - delta * output.value, output.std)
        if self.config.noise == "cps":
            to_noise, std = (tau - delta) * math.cos(math.pi * level / 2), (tau - delta) * math.sin(math.pi * level / 2)
        else:
            sigma = level * (tau / (1 - torch.where(index[:, None, None] == 0, tau - delta, tau))).sqrt()
            to_noise, std = tau - delta - sigma**2 * delta / (2 * tau), sigma * delta**0.5
        to_chunk = 1 - tau + delta
        mean = to_chunk * (x - tau * output.value) + to_noise * (x + (1 - tau) * output.value)
        return Transition(mean, std.clamp_min(self.config.min_std))

    def implied(self, x: torch.Tensor, index: torch.Tensor, mean: torch.Tensor, std: float) -> torch.Tensor:
        """E[noise − chunk | x] for chunks N(mean, std²): x_τ is Gaussian with variance (1−τ)² std² + τ²."""
        tau = self.time(index)[:, None, None]
        surprise = (x - (1 - tau) * mean) / ((1 - tau) ** 2 * std**2 + tau**2)
        return tau * surprise - (mean + (1 - tau) * std**2 * surprise)


def training_pair(chunk: torch.Tensor, noise: torch.Tensor, time: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy chunk x_τ and velocity target for chunks and noise `(B, K, A)` at times `(B,)`."""
    tau = time[:, None, None]
    return (1 - tau) * chunk + tau * noise, noise - chunk


def training_time(batch: int, generator: torch.Generator | None, device: torch.device) -> torch.Tensor:
    """Times `(B,)` ~ Beta(1.5, 1), denser towards noise (π0, arXiv 2410.24164, mirrored), in [0.001, 1]."""
    return 0.001 + 0.999 * torch.rand(batch, generator=generator).to(device) ** (1 / 1.5)
