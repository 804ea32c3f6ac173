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
from policies.heads.draw import randint, randn, require_finite, require_stochastic
from policies.interface import Mode


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
    batch, steps, device = len(noise), process.steps, noise.device
    index = torch.arange(steps, device=device).expand(batch, -1)
    if mode == "greedy":
        index = index[:, :0]
    elif stochastic == "one":
        index = randint(steps, (batch, 1), generator, device)
    chain = [noise]
    for step in range(steps):
        x, at = chain[-1], torch.full((batch,), step, device=device)
        output = network(x, process.time(at))
        new = process.deterministic(x, at, output)
        if mode == "stochastic":
            mean, std = process.transition(x, at, output)
            drawn = mean + std * temperature**0.5 * randn(x.shape, generator, device)
            new = torch.where((index == step).any(1)[:, None, None], drawn, new)
        chain.append(new)
    require_finite(chain[-1])
    whole, rows = torch.stack(chain, 1), torch.arange(batch, device=device)[:, None]
    return chain[-1], Decision({"before": whole[rows, index], "after": whole[rows, index + 1], "index": index}, mode, temperature)


def greedy_chain(process: Process, network: Network, noise: torch.Tensor) -> torch.Tensor:
    """The chain of mode greedy from `noise` `(B, K, A)`, step for step as `sample_chain` runs it."""
    x = noise
    for step in range(process.steps):
        at = torch.full((len(x),), step, device=x.device)
        x = process.deterministic(x, at, network(x, process.time(at)))
    return x


def chain_factors(process: Process, network: Network, decision: Decision, elements: torch.Tensor) -> GaussianFactors:
    """Score the stochastic steps of `decision` under a network; `elements` `(B, K, A)` bool.

    Raises `PolicyError` for a greedy decision, which drew nothing.
    """
    before, after, index = (decision.values[name] for name in ("before", "after", "index"))
    require_stochastic(decision)
    parts, outputs = [], []
    for f in range(index.shape[1]):
        outputs.append(network(before[:, f], process.time(index[:, f])))
        parts.append(process.transition(before[:, f], index[:, f], outputs[-1]))
    mean, std = (torch.stack([part[i].expand(before[:, 0].shape) for part in parts], 1) for i in (0, 1))
    output = torch.stack([output.value for output in outputs], 1)
    return GaussianFactors(mean, std * decision.temperature**0.5, after, elements, output, decision.temperature)
