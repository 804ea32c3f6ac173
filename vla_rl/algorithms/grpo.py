"""Group-relative policy optimisation on success (arXiv 2402.03300), and with a teacher dGRPO (arXiv 2605.12227).

Episodes of one initial state form a group; an episode's advantage is its success relative to the group's, the same for
all its factors. Groups whose episodes all succeed or all fail say nothing and are dropped (counted in the log). The
teacher's part is added to the advantage (β (log π_T − log π_rollout)) or to the loss (β KL(π ‖ π_T)); it also uses the
dropped groups, so that without outcome variance dGRPO is OPD, and as β → 0 it becomes GRPO.

    E episodes · D decisions · F factors
"""

from __future__ import annotations

import torch
from torch import nn

from policies.factors import Factors
from policies.interface import ChunkPolicy, Policy
from vla_rl.alarms import factor_metrics, ratio_metrics
from vla_rl.batch import Batch
from vla_rl.config import GrpoConfig
from vla_rl.objectives.advantage import group_advantage
from vla_rl.objectives.distill import log_ratio_reward
from vla_rl.objectives.reduce import decision_weight, masked_mean
from vla_rl.objectives.surrogate import clipped_surrogate, log_ratio
from vla_rl.optimize import Loss, adamw, gradient_passes, schedule, set_learning_rate
from vla_rl.scoring import factors_at, mismatch, score
from vla_rl.teachers import Teacher


class Grpo:
    """Clipped policy gradient on group-relative success."""

    critic: nn.Module | None = None

    def __init__(
        self, policy: Policy, config: GrpoConfig, teacher: Teacher | None, reference: ChunkPolicy | None = None, accumulate: int = 1
    ) -> None:
        self.policy, self.config, self.teacher, self.reference, self.accumulate = policy, config, teacher, reference, accumulate
        self.optimizer = adamw({config.lr: list(policy.parameters())}, config.weight_decay)

    def update(self, batch: Batch, generator: torch.Generator) -> dict[str, float]:
        """Improve on one rollout batch. Returns mean metrics over the gradient steps; without a mixed group there are none."""
        set_learning_rate(self.optimizer, schedule(batch.version, self.config.updates, warmup=0))
        rollouts, first = _first_rows(batch.rollout)
        advantage, mixed = group_advantage(batch.success[first].float(), batch.group[first], self.config.divide_by_std)
        episode = torch.searchsorted(rollouts, batch.rollout)
        rows = torch.arange(len(batch)) if self.config.distill else mixed[episode].nonzero()[:, 0].cpu()
        metrics = {"zero_variance_groups": 1 - mixed.float().mean().item(), "dropped_decisions": 1 - len(rows) / len(batch)}
        if len(rows) == 0:
            return metrics
        target = self.teacher.factors(batch) if self.teacher else None
        reference = score(self.reference, batch) if self.reference else None
        metrics["log_prob_mismatch"] = mismatch(self.policy, batch, rows[: self.config.minibatch])

        factors, weighted = batch.factor_mask.sum(1), advantage[episode]
        weighted[rows] *= decision_weight(factors[rows], episode[rows], mixed[episode][rows], self.config.loss_mean)

        def loss(index: torch.Tensor) -> Loss:
            return self._loss(factors_at(self.policy, batch, index), weighted[index][:, None], target, reference, batch, index)

        return metrics | gradient_passes(rows, loss, self.optimizer, self.config, self.accumulate, generator, factors)

    def _loss(
        self,
        student: Factors,
        advantage: torch.Tensor,
        target: Factors | None,
        reference: Factors | None,
        batch: Batch,
        index: torch.Tensor,
    ) -> Loss:
        config, behaviour = self.config, batch.log_prob[index]
        target = target[index] if target is not None else None
        ratio = log_ratio(student.log_prob(), behaviour, student.mask, config.ratio)
        advantage = advantage.expand(behaviour.shape)
        if target is not None and config.distill_as == "advantage":
            advantage = advantage + config.distill * log_ratio_reward(target.log_prob(), behaviour)
        value = clipped_surrogate(ratio, advantage, student.mask, config.ratio_clip, config.ratio_clip_high)
        if target is not None and config.distill_as == "loss":
            value = value + config.distill * masked_mean(student.kl(target, "reverse"), student.mask)
        metrics = factor_metrics(student.detach(), target, batch.decision[index], behaviour)
        metrics |= ratio_metrics(ratio, student.mask, config.ratio_clip, config.ratio_clip_high)
        if reference is not None:
            kl = masked_mean(student.kl(reference[index], "reverse"), student.mask)
            value, metrics = value + config.reference_kl * kl, metrics | {"reference_kl": kl.item()}
        return Loss(value, metrics)


def _first_rows(rollout: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sorted episode ids `(E,)` and the row of each one's first decision; `rollout` `(D,)` is sorted."""
    rollouts, counts = rollout.unique_consecutive(return_counts=True)
    return rollouts, torch.cat([counts.new_zeros(1), counts.cumsum(0)[:-1]])
