"""DAgger (arXiv 1011.0686): supervised learning on what the teacher would do at the states that the student visits.

With probability β, decision by decision so that no trajectory is torn inside a chunk, the teacher's chunk is executed in
place of the student's (arXiv 2605.12913); β decays from update to update. At β = 1 this is behaviour cloning on the
teacher's own states, at β = 0 purely on-policy. Each update learns from its own rollouts only, as OPD does.

    D decisions · K chunk steps · A action dimensions
"""

from __future__ import annotations

import torch
from torch import nn

from policies.interface import Policy
from vla_rl.batch import Batch
from vla_rl.config import DaggerConfig
from vla_rl.optimize import Loss, adamw, gradient_passes, schedule, set_learning_rate
from vla_rl.teachers import Teacher


class Dagger:
    """The head's supervised loss on the teacher's chunks; works for every head, and for teachers with another head."""

    critic: nn.Module | None = None

    def __init__(self, policy: Policy, config: DaggerConfig, teacher: Teacher, accumulate: int = 1) -> None:
        self.policy, self.config, self.teacher, self.accumulate = policy, config, teacher, accumulate
        self.optimizer = adamw({config.lr: list(policy.parameters())}, config.weight_decay)

    def mixture(self, update: int) -> float:
        """β of an update."""
        return self.config.mixture * self.config.mixture_decay**update

    def update(self, batch: Batch, generator: torch.Generator) -> dict[str, float]:
        """Learn the recorded teacher chunks of one batch. Returns mean metrics over the gradient steps."""
        set_learning_rate(self.optimizer, schedule(batch.version, self.config.updates, warmup=0))
        if batch.teacher_chunk is None:
            raise ValueError("the batch holds no teacher chunks; roll out with the teacher's `chunk`")
        chunk = batch.teacher_chunk
        whole = torch.ones_like(batch.mask)  # the teacher's whole chunk is a label, executed or not

        def loss(index: torch.Tensor) -> Loss:
            context = self.policy.encode(batch.obs_at(index))
            weight = torch.ones(len(index), device=chunk.device)
            return Loss(self.policy.sft_loss(context, chunk[index], whole[index], weight, generator), {})

        rows = torch.arange(len(batch))
        metrics = gradient_passes(rows, loss, self.optimizer, self.config, self.accumulate, generator, torch.ones(len(batch)))
        acted = sum(source == "teacher" for source in batch.source) / len(batch)
        return metrics | {"teacher_acted": acted}
