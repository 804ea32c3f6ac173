"""Denoising chains: how a network that cleans noisy chunks becomes a sampler with likelihoods, for any noise process.

A chain runs S steps from Gaussian noise to a chunk. Its stochastic steps are the factors of a decision; the others are
deterministic functions of the step before. A decision keeps the noisy chunk before and after every stochastic step, so
that any network of the family can score the same draw.

B batch · S denoising steps · F stochastic steps · K chunk steps · A action dimensions
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol

import torch

from policies.factors import Decision
from policies.gaussian import GaussianFactors
from policies.interface import Mode, PolicyError


class Output(NamedTuple):
    """What a denoising network predicts at noisy chunks `(B, K, A)`."""

    value: torch.Tensor
    """`(B, K, A)` velocity or noise."""
    std: torch.Tensor | None = None
    """Learned standard deviation of a stochastic step, broadcast to `(B, K, A)`; `None` where the schedule sets it."""


class Transition(NamedTuple):
    """One denoising step as a Gaussian, or without its noise."""

    mean: torch.Tensor
    """`(B, K, A)`."""
    std: torch.Tensor
    """Broadcast to `(B, K, A)`, positive."""
    gain: torch.Tensor
    """`(B,)` |∂mean/∂network output|."""


Network = Callable[[torch.Tensor, torch.Tensor], Output]
"""Noisy chunks `(B, K, A)` and times `(B,)` in [0, 1] (1 is pure noise) → prediction."""


class Process(Protocol):
    """A noise process with S steps; step 0 starts at pure noise."""

    @property
    def steps(self) -> int:
        """S."""
        ...

    def time(self, index: torch.Tensor) -> torch.Tensor:
        """Time in [0, 1] that the network is given at steps `index` `(B,)`."""
        ...

    def deterministic(self, x: torch.Tensor, index: torch.Tensor, output: Output) -> torch.Tensor:
        """The step without noise: `(B, K, A)` → `(B, K, A)`."""
        ...

    def transition(self, x: torch.Tensor, index: torch.Tensor, output: Output) -> Transition:
        """The stochastic step."""
        ...

    def implied(self, x: torch.Tensor, index: torch.Tensor, mean: torch.Tensor, std: float) -> torch.Tensor:
        """The prediction `(B, K, A)` that is exact when clean chunks are distributed as N(mean, std²)."""
        ...


def sample_chain(
    process: Process,
    network: Network,
    noise: torch.Tensor,
    mode: Mode,
    stochastic: Literal["one", "all"],
    temperature: float,
    generator: torch.Generator | None,
) -> tuple[torch.Tensor, Decision]:
    """Run the chain from `noise` `(B, K, A)`. Greedy mode takes no stochastic step, so its decision has no factors.

    A temperature T multiplies variances, as dividing logits by T does for a Gaussian. Raises `PolicyError` for NaN.
    """
    batch, steps, x = len(noise), process.steps, noise
    chosen = torch.zeros(batch, steps, dtype=torch.bool, device=x.device)
    if mode == "stochastic" and stochastic == "all":
        chosen[:] = True
    elif mode == "stochastic":
        chosen.scatter_(1, _randint(steps, (batch, 1), generator, x.device), True)
    before, after = [], []
    for step in range(steps):
        index = torch.full((batch,), step, device=x.device)
        output = network(x, process.time(index))
        new = process.deterministic(x, index, output)
        if mode == "stochastic":
            mean, std, _ = process.transition(x, index, output)
            drawn = mean + std * temperature**0.5 * randn(x.shape, generator, x.device)
            new = torch.where(chosen[:, step, None, None], drawn, new)
        before.append(x)
        after.append(new)
        x = new
    if not torch.isfinite(x).all():
        raise PolicyError("the policy's chunk is NaN or infinite (a NaN observation or diverged weights); no action was drawn")
    count = int(chosen[0].sum())
    index = chosen.nonzero()[:, 1].reshape(batch, count)
    rows = torch.arange(batch, device=x.device)[:, None]
    values = {"before": torch.stack(before, 1)[rows, index], "after": torch.stack(after, 1)[rows, index], "index": index}
    return x, Decision(values, mode, temperature)


def chain_factors(process: Process, network: Network, decision: Decision, elements: torch.Tensor) -> GaussianFactors:
    """Score the stochastic steps of `decision` under a network; `elements` `(B, K, A)` bool.

    Raises `PolicyError` for a greedy decision, which drew nothing.
    """
    before, after, index = (decision.values[name] for name in ("before", "after", "index"))
    if index.shape[1] == 0:
        raise PolicyError("a greedy decision has no stochastic step to score; sample in mode 'stochastic'")
    parts = []
    for f in range(index.shape[1]):
        output = network(before[:, f], process.time(index[:, f]))
        parts.append(process.transition(before[:, f], index[:, f], output))
    mean, std = (torch.stack([part[i].expand(before[:, 0].shape) for part in parts], 1) for i in (0, 1))
    gain = torch.stack([part.gain for part in parts], 1)
    return GaussianFactors(mean, std * decision.temperature**0.5, after, elements, gain, decision.temperature)


def randn(shape: torch.Size | tuple[int, ...], generator: torch.Generator | None, device: torch.device) -> torch.Tensor:
    """Standard normal numbers, drawn on the CPU, so that a seed gives the same chunk on every device."""
    return torch.randn(shape, generator=generator).to(device)


def _randint(high: int, shape: tuple[int, ...], generator: torch.Generator | None, device: torch.device) -> torch.Tensor:
    return torch.randint(high, shape, generator=generator).to(device)
