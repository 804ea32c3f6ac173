"""On-policy distillation (VLA-OPD, arXiv 2603.26666): the student acts, the teacher scores what the student did.

    maximise  J(θ) = E_{s ~ student} [ −KL(π_θ(·|s) ‖ π_T(·|s)) ]

Exact: the closed-form KL per factor. Sampled (the paper, eq. 6 and 7): reward log π_T(a) − log π_rollout(a) on the
student's own draws, through a clipped surrogate so that several passes over a batch stay safe (the paper takes one).
A reward scale λ replaces the teacher by π_ref (π_T / π_ref)^λ (G-OPD, arXiv 2602.12125).

    D decisions of a rollout · F factors
"""

from __future__ import annotations

import torch
from torch import nn

from policies.factors import Factors
from policies.gaussian import GaussianFactors
from policies.interface import ChunkPolicy, Policy
from vla_rl.alarms import factor_metrics, ratio_metrics
from vla_rl.batch import Batch
from vla_rl.config import OpdConfig
from vla_rl.objectives.distill import cross_entropy_loss, distance_loss, kl_loss, sampled_reward
from vla_rl.objectives.surrogate import clipped_surrogate, log_ratio
from vla_rl.optimize import Loss, adamw, gradient_passes, schedule, set_learning_rate
from vla_rl.scoring import factors_at, mismatch, score
from vla_rl.teachers import Teacher


class Opd:
    """Several gradient passes per rollout batch; the teacher is scored once per batch."""

    critic: nn.Module | None = None

    def __init__(
        self, policy: Policy, config: OpdConfig, teacher: Teacher | None, reference: ChunkPolicy | None = None, accumulate: int = 1
    ) -> None:
        self.policy, self.config, self.teacher, self.reference, self.accumulate = policy, config, teacher, reference, accumulate
        self.optimizer = adamw({config.lr: list(policy.parameters())}, config.weight_decay)

    def update(self, batch: Batch, generator: torch.Generator) -> dict[str, float]:
        """Distil one rollout batch; `generator` shuffles the minibatches. Returns mean metrics over the gradient steps."""
        set_learning_rate(self.optimizer, schedule(batch.version, self.config.updates, warmup=0))
        target = self.teacher.factors(batch) if self.teacher else None
        if target is not None and self.reference is not None:
            target = target.tilted(score(self.reference, batch), self.config.reward_scale)

        def loss(index: torch.Tensor) -> Loss:
            return self._loss(factors_at(self.policy, batch, index), target[index] if target is not None else None, batch, index)

        rows = torch.arange(len(batch))
        metrics = {"log_prob_mismatch": mismatch(self.policy, batch, rows[: self.config.minibatch])}
        return metrics | gradient_passes(rows, loss, self.optimizer, self.config, self.accumulate, generator, batch.factor_mask.sum(1))

    def _loss(self, student: Factors, target: Factors | None, batch: Batch, index: torch.Tensor) -> Loss:
        config, behaviour = self.config, batch.log_prob[index]
        metrics = factor_metrics(student.detach(), target, batch.decision[index], behaviour)
        if target is not None and config.estimator == "exact":
            return Loss(_exact(config.signal, student, target), metrics)
        advantage = torch.full_like(behaviour, -1.0)
        if target is not None:
            advantage = sampled_reward(student, target, behaviour, config.baseline, config.credit)
        ratio = log_ratio(student.log_prob(), behaviour, student.mask, config.ratio)
        metrics |= ratio_metrics(ratio, student.mask, config.ratio_clip, config.ratio_clip)
        return Loss(clipped_surrogate(ratio, advantage, student.mask, config.ratio_clip), metrics)


def _exact(signal: str, student: Factors, target: Factors) -> torch.Tensor:
    """The closed-form loss of a signal."""
    if signal == "distance":
        assert isinstance(student, GaussianFactors) and isinstance(target, GaussianFactors)
        return distance_loss(student, target)
    if signal == "cross_entropy":
        return cross_entropy_loss(student, target)
    return kl_loss(student, target, "reverse" if signal == "reverse_kl" else "forward")
