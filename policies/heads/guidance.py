"""Real-time chunking: a flow chain drawn to what the robot will do anyway while the chunk is made (arXiv 2506.07339).

    guess      x̂ = x − τv                                       of the chunk, at every step of the ODE
    pull       g = (∂x̂/∂x)ᵀ W (Y − x̂)                           towards the steps Y of the last chunk (eq. 2, ΠGDM)
    velocity   v − min(β, τ / ((1 − τ) r²)) g,   r² = τ² / ((1 − τ)² + τ²)
    W          1 for the d steps that are surely executed, then fading to 0 at the end of Y (eq. 5)

The paper's time runs the other way: its t is 1 − τ, its velocity −v.

B batch · K chunk steps · P steps of the last chunk that overlap, P ≤ K · A action dimensions
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from policies.heads.chain import Network
from policies.heads.flow import FlowProcess

LIMIT = 5.0
"""β: the paper's for five denoising steps."""


def weights(chunk: int, overlap: int, committed: int) -> torch.Tensor:
    """`(K,)` diagonal of W: `committed` steps count in full, those up to `overlap` ever less, the rest nothing."""
    step = torch.arange(chunk, dtype=torch.float32)
    left = (overlap - step) / (overlap - committed + 1)
    fading = left * torch.expm1(left) / (math.e - 1)
    return torch.where(step < committed, 1.0, torch.where(step < overlap, fading, 0.0))


def guided_chain(process: FlowProcess, network: Network, noise: torch.Tensor, prefix: torch.Tensor, committed: int) -> torch.Tensor:
    """The greedy chain from `noise` `(B, K, A)`, drawn to `prefix` `(B, P, A)` of which `committed` steps are certain."""
    chunk, overlap = noise.shape[1], prefix.shape[1]
    W = weights(chunk, overlap, committed).to(noise)[:, None]
    wanted = F.pad(prefix, (0, 0, 0, chunk - overlap))
    x = noise
    for step in range(process.steps):
        at = torch.full((len(x),), step, device=x.device)
        tau = process.time(at)[:, None, None]
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            output = network(x, process.time(at))
            guess = x - tau * output.value
            (pull,) = torch.autograd.grad(guess, x, (W * (wanted - guess)).detach())
        strength = (((1 - tau) ** 2 + tau**2) / (tau * (1 - tau))).clamp_max(LIMIT)
        x = process.deterministic(x.detach(), at, output._replace(value=(output.value - strength * pull).detach()))
    return x
