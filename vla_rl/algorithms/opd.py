"""On-policy distillation (VLA-OPD, arXiv 2603.26666): the student acts, the teacher scores what the student did.

    maximise  J(θ) = E_{s ~ student} [ −KL(π_θ(·|s) ‖ π_T(·|s)) ]

Exact: the full-vocabulary KL per factor. Sampled (the paper, eq. 6 and 7): reward log π_T(a) − log π_rollout(a) on the
student's own tokens, through a clipped surrogate so that several passes over a batch stay safe (the paper takes one).

    D decisions of a rollout · F factors
"""

from __future__ import annotations

import torch

from policies.factors import Factors
from policies.vla import VlaPolicy
from vla_rl.batch import Batch
from vla_rl.config import OpdConfig
from vla_rl.objectives.distill import cross_entropy_loss, kl_loss, log_ratio_reward
from vla_rl.objectives.reduce import masked_mean
from vla_rl.objectives.surrogate import clipped_surrogate
from vla_rl.optimize import gradient_step, schedule, set_learning_rate
from vla_rl.teachers import Teacher


class Opd:
    """Several gradient passes per rollout batch; the teacher is scored once per batch."""

    def __init__(self, policy: VlaPolicy, config: OpdConfig, teacher: Teacher | None) -> None:
        self.policy, self.config, self.teacher = policy, config, teacher
        self.optimizer = torch.optim.AdamW(policy.parameters(), lr=config.lr, weight_decay=config.weight_decay)

    def update(self, batch: Batch, generator: torch.Generator) -> dict[str, float]:
        """Distil one rollout batch; `generator` shuffles the minibatches. Returns mean metrics over the gradient steps."""
        set_learning_rate(self.optimizer, self.config.lr * schedule(batch.version, self.config.updates, warmup=0))
        teacher = self.teacher.factors(batch) if self.teacher else None
        rows: list[dict[str, float]] = []
        for _ in range(self.config.passes):
            for index in torch.randperm(len(batch), generator=generator).split(self.config.minibatch):
                context = self.policy.encode(batch.obs_at(index))
                student = self.policy.factors(context, batch.decision[index], batch.mask[index])
                target = teacher[index] if teacher is not None else None
                loss = self._loss(student, target, batch.log_prob[index])
                norm = gradient_step(self.optimizer, loss, self.config.grad_clip)
                rows.append({"loss": loss.item(), "grad_norm": norm} | _diagnostics(student.detach(), target, batch.log_prob[index]))
        return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}

    def _loss(self, student: Factors, teacher: Factors | None, behaviour_log_prob: torch.Tensor) -> torch.Tensor:
        """The configured signal; only the control without a teacher may come without one."""
        config = self.config
        if teacher is None:
            advantage = torch.full_like(behaviour_log_prob, -1.0)
            return clipped_surrogate(student.log_prob(), behaviour_log_prob, advantage, student.mask, config.ratio_clip)
        if config.estimator == "sampled":
            advantage = log_ratio_reward(teacher.log_prob(), behaviour_log_prob)
            return clipped_surrogate(student.log_prob(), behaviour_log_prob, advantage, student.mask, config.ratio_clip)
        if config.signal == "cross_entropy":
            return cross_entropy_loss(student, teacher)
        return kl_loss(student, teacher, "reverse" if config.signal == "reverse_kl" else "forward")


def _diagnostics(student: Factors, teacher: Factors | None, behaviour_log_prob: torch.Tensor) -> dict[str, float]:
    """Entropy and KL to the teacher per factor [nat], mean importance ratio."""
    ratio = (student.log_prob() - behaviour_log_prob).exp()
    values = {"entropy": masked_mean(student.entropy(), student.mask).item(), "ratio": masked_mean(ratio, student.mask).item()}
    if teacher is not None:
        values["reverse_kl"] = masked_mean(student.kl(teacher, "reverse"), student.mask).item()
    return values
