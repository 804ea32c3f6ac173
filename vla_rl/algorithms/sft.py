"""Supervised fine-tuning on demonstration chunks.

L = mean over demonstrated (observation, chunk) pairs of −log π(chunk | observation)

B batch · K chunk steps · A action dimensions
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from policies.interface import Observation, Policy, PolicySpec
from vla_rl.batch import rows_of
from vla_rl.config import SftConfig
from vla_rl.optimize import Loss, adamw, gradient_step, schedule, set_learning_rate


class Sft:
    """One gradient step per update, learning rate warmed up linearly and decayed by a cosine."""

    critic: nn.Module | None = None

    def __init__(self, policy: Policy, config: SftConfig, accumulate: int = 1) -> None:
        self.policy, self.config, self.accumulate = policy, config, accumulate
        self.optimizer = adamw({config.lr: list(policy.parameters())}, config.weight_decay)

    def update(self, obs: Observation, chunk: torch.Tensor, mask: torch.Tensor, step: int, generator: torch.Generator) -> dict[str, float]:
        """One step on B demonstrated chunks.

        Args:
            obs: entries `(B, ...)`.
            chunk: `(B, K, A)` actions in the spec's units.
            mask: `(B, K)` bool, false beyond the episode's end.
            step: index of this gradient step; sets the learning rate.
            generator: draws image augmentation and state dropout, and noise and times of denoising heads.
        """
        set_learning_rate(self.optimizer, schedule(step, self.config.steps, self.config.warmup))
        if self.config.shift_px:
            images = {entry.name for entry in self.policy.spec.of_kind("image")}
            obs = {name: random_shift(value, self.config.shift_px, generator) if name in images else value for name, value in obs.items()}
        if self.config.state_dropout:
            obs = drop_states(obs, self.policy.spec, self.config.state_dropout, generator)
        device, weight = self.policy.device, torch.ones(len(chunk))
        chunk, weight, elements = chunk.to(device), weight.to(device), mask[..., None].expand(chunk.shape).to(device)

        def loss(index: torch.Tensor) -> Loss:
            context = self.policy.encode(rows_of(obs, index))
            return Loss(self.policy.sft_loss(context, chunk[index], elements[index], weight[index], generator), {})

        parts = torch.arange(len(chunk)).chunk(self.accumulate)
        size = elements.flatten(1).sum(1).float()
        return gradient_step(self.optimizer, loss, parts, self.config.grad_clip, size) | {"lr": self.optimizer.param_groups[0]["lr"]}


def drop_states(obs: Observation, spec: PolicySpec, share: float, generator: torch.Generator) -> Observation:
    """`obs` with all state entries of about `share` of its rows in the middle of their ranges, where they say nothing."""
    states = spec.of_kind("state")
    hidden = torch.rand(len(obs[states[0].name]), generator=generator) < share
    middle = {entry.name: (torch.tensor(entry.low) + torch.tensor(entry.high)) / 2 for entry in states}
    return {
        name: torch.where(hidden[:, None], middle[name], torch.as_tensor(value)) if name in middle else value for name, value in obs.items()
    }


def random_shift(image: np.ndarray | torch.Tensor, pixels: int, generator: torch.Generator) -> torch.Tensor:
    """Translate each image `(B, H, W, 3)` uint8 by up to `pixels` in x and y, repeating the border (DrQ-v2, arXiv 2107.09645)."""
    image = torch.as_tensor(image)
    batch, height, width, _ = image.shape
    padded = F.pad(image.permute(0, 3, 1, 2).float(), (pixels,) * 4, mode="replicate").to(torch.uint8).permute(0, 2, 3, 1)
    dy, dx = torch.randint(0, 2 * pixels + 1, (2, batch), generator=generator)
    rows = dy[:, None] + torch.arange(height)
    columns = dx[:, None] + torch.arange(width)
    return padded[torch.arange(batch)[:, None, None], rows[:, :, None], columns[:, None, :]]
