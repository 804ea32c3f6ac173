"""Parallel action tokens (OpenVLA-OFT style): every action dimension at every chunk step is one categorical factor.

B batch · K chunk steps · A action dimensions · F = K·A factors · V bins · W trunk width
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from policies.factors import CategoricalFactors, Decision
from policies.heads.draw import categorical, require_finite
from policies.heads.reduce import weighted_mean
from policies.interface import Mode


class TokenHead(nn.Module):
    """Categorical distribution over V uniform bins of the normalised action range [-1, 1] (first and last bin centred on the ends)."""

    def __init__(self, width: int, action_dim: int, bins: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, action_dim * bins)
        self.bins = bins
        self.action_dim = action_dim
        self.noise_shape = None

    def logits(self, features: torch.Tensor) -> torch.Tensor:
        """`(B, K, W)` trunk features → `(B, F, V)` logits."""
        return self.out(self.norm(features)).reshape(len(features), -1, self.bins)

    def sample(
        self, features: torch.Tensor, mode: Mode, temperature: float, generator: torch.Generator | None
    ) -> tuple[torch.Tensor, Decision]:
        """Draw normalised chunks `(B, K, A)` in [-1, 1] and the tokens behind them. Raises `PolicyError` for NaN."""
        logits = self.logits(features)
        require_finite(logits)
        tokens = logits.argmax(-1) if mode == "greedy" else categorical((logits / temperature).softmax(-1), generator)
        chunk = self.decode(tokens).reshape(len(features), -1, self.action_dim)
        return chunk, Decision({"tokens": tokens}, mode, temperature)

    def greedy(self, features: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        """The bin centres `(B, K, A)` of the most likely tokens, normalised; `noise` is not used."""
        return self.decode(self.logits(features).argmax(-1)).reshape(len(features), -1, self.action_dim)

    def factors(self, features: torch.Tensor, decision: Decision, mask: torch.Tensor) -> CategoricalFactors:
        """Distribution of each token at the decision's temperature; `mask` `(B, K, A)`."""
        log_probs = (self.logits(features) / decision.temperature).log_softmax(-1)
        return CategoricalFactors(log_probs, decision.values["tokens"], mask.flatten(1), decision.temperature)

    def implied_factors(self, mean: torch.Tensor, std: float, decision: Decision, mask: torch.Tensor) -> CategoricalFactors:
        """Bin masses of N(mean, std²); `mean` `(B, K, A)` normalised. The outer bins hold the tails."""
        edges = self.decode(torch.arange(self.bins - 1, device=mean.device)) + 1 / (self.bins - 1)  # between bin centres
        z = (edges - mean.flatten(1)[..., None]) / std
        inf = torch.full_like(z[..., :1], torch.inf)
        log_probs = _log_normal_mass(torch.cat([-inf, z], -1), torch.cat([z, inf], -1))
        return CategoricalFactors(log_probs, decision.values["tokens"], mask.flatten(1), decision.temperature)

    def loss(
        self, features: torch.Tensor, chunk: torch.Tensor, mask: torch.Tensor, weight: torch.Tensor, generator: torch.Generator | None
    ) -> torch.Tensor:
        """Cross-entropy of the bins of normalised chunks; `mask` `(B, K, A)`, `weight` `(B,)`. `generator` is not used."""
        logits = self.logits(features)
        nll = F.cross_entropy(logits.flatten(0, 1), self.encode(chunk).flatten(), reduction="none")
        return weighted_mean(nll.reshape(chunk.shape), mask, weight)

    def encode(self, chunk: torch.Tensor) -> torch.Tensor:
        """Normalised actions → nearest bin, int64; values outside [-1, 1] fall into the outer bins."""
        return ((chunk.clamp(-1, 1) + 1) / 2 * (self.bins - 1)).round().long()

    def decode(self, tokens: torch.Tensor) -> torch.Tensor:
        """Bins → normalised bin centres."""
        return tokens / (self.bins - 1) * 2 - 1


def _log_normal_mass(low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """log(Φ(high) − Φ(low)) for low < high, exact in both tails."""
    flip = low > 0  # mirror to the left tail, where log Φ keeps its precision
    low, high = torch.where(flip, -high, low), torch.where(flip, -low, high)
    top, bottom = torch.special.log_ndtr(high), torch.special.log_ndtr(low)
    return top + torch.log1p(-(bottom - top).exp())
