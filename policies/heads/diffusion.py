"""Denoising diffusion as a noise process: x_t = √ᾱ_t chunk + √(1 − ᾱ_t) noise; the network predicts the noise ε.

Schedule and timesteps are diffusers'; the step t → p is ours, equal to `scheduler.step` (tests compare them):

    x̂0 = (x_t − √(1−ᾱ_t) ε) / √ᾱ_t, clamped to the action range [−1, 1]
    DDIM (arXiv 2010.02502 eq. 12, 16)  std η √((1−ᾱ_p)/(1−ᾱ_t)) √(1 − ᾱ_t/ᾱ_p),  mean √ᾱ_p x̂0 + √(1−ᾱ_p−std²) ε
    DDPM (arXiv 2006.11239 eq. 7)       std of DDIM at η = 1,  mean [√ᾱ_p (1 − ᾱ_t/ᾱ_p) x̂0 + √(ᾱ_t/ᾱ_p) (1−ᾱ_p) x_t] / (1−ᾱ_t)

Where x̂0 is not clamped, DDPM and DDIM at η = 1 are the same step.

B batch · S denoising steps · K chunk steps · A action dimensions
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler

from policies.config import DiffusionHeadConfig
from policies.heads.chain import Output, Transition


@dataclass(frozen=True)
class DiffusionProcess:
    """The chain of a diffusion head (see `policies.heads.chain.Process`)."""

    config: DiffusionHeadConfig

    @property
    def steps(self) -> int:
        """S."""
        return self.config.steps

    def time(self, index: torch.Tensor) -> torch.Tensor:
        """Time of steps `index` `(B,)`, as `training_time` gives it."""
        return self.training_time(self._timesteps.to(index.device)[index])

    def training_time(self, timestep: torch.Tensor) -> torch.Tensor:
        """Time in (0, 1] that the network is given at timesteps `(B,)` int64 of the training schedule."""
        return (timestep + 1) / self.config.train_steps

    def deterministic(self, x: torch.Tensor, index: torch.Tensor, output: Output) -> torch.Tensor:
        """The DDIM step at η = 0."""
        now, then = self._alphas(index, x)
        return then.sqrt() * self._clean(x, now, output.value) + (1 - then).sqrt() * output.value

    def transition(self, x: torch.Tensor, index: torch.Tensor, output: Output) -> Transition:
        """Mean and standard deviation of the stochastic step."""
        now, then = self._alphas(index, x)
        clean = self._clean(x, now, output.value)
        eta = 1.0 if self.config.sampler == "ddpm" else self.config.eta
        variance = eta**2 * (1 - then) / (1 - now) * (1 - now / then)
        to_noise = (1 - then - variance).clamp_min(0).sqrt()
        if self.config.sampler == "ddpm":
            mean = (then.sqrt() * (1 - now / then) * clean + (now / then).sqrt() * (1 - then) * x) / (1 - now)
        else:
            mean = then.sqrt() * clean + to_noise * output.value
        return Transition(mean, variance.sqrt().clamp_min(self.config.min_std))

    def implied(self, x: torch.Tensor, index: torch.Tensor, mean: torch.Tensor, std: float) -> torch.Tensor:
        """E[ε | x] for chunks N(mean, std²): x_t is Gaussian with variance ᾱ std² + 1 − ᾱ."""
        now, _ = self._alphas(index, x)
        return (1 - now).sqrt() * (x - now.sqrt() * mean) / (now * std**2 + 1 - now)

    def noisy(self, chunk: torch.Tensor, noise: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """Training input x_t for chunks and noise `(B, K, A)` at timesteps `(B,)` int64 of the training schedule."""
        alpha = self._scheduler.alphas_cumprod.to(chunk)[timestep.to(chunk.device)][:, None, None]
        return alpha.sqrt() * chunk + (1 - alpha).sqrt() * noise

    @cached_property
    def _scheduler(self) -> DDIMScheduler:
        scheduler = DDIMScheduler(
            num_train_timesteps=self.config.train_steps,
            beta_schedule=self.config.schedule,
            clip_sample=False,
            timestep_spacing="leading",
        )
        scheduler.set_timesteps(self.config.steps)
        return scheduler

    @cached_property
    def _timesteps(self) -> torch.Tensor:
        return torch.as_tensor(self._scheduler.timesteps).long()

    def _alphas(self, index: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """ᾱ before and after steps `index` `(B,)`, each `(B, 1, 1)`; after the last step it is 1."""
        alphas = self._scheduler.alphas_cumprod[self._timesteps]
        alphas = torch.cat([alphas, torch.ones(1)]).to(x)
        return alphas[index][:, None, None], alphas[index + 1][:, None, None]

    @staticmethod
    def _clean(x: torch.Tensor, alpha: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """x̂0, clamped. The gradient passes as if it were not: the clamp's own would have the wrong sign, or vanish."""
        clean = (x - (1 - alpha).sqrt() * noise) / alpha.sqrt()
        return clean.detach().clamp(-1, 1) + (clean - clean.detach())
