"""Teachers for distillation: a frozen policy of the same family, or the scripted expert as a distribution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from policies.factors import Factors
from policies.interface import ChunkPolicy, SpecError, flatten
from policies.vla import VlaPolicy
from vla_rl.batch import Batch

SCORING_BATCH = 256


class Teacher(Protocol):
    """Scores the decisions that the student made; never acts."""

    @property
    def needs_expert(self) -> bool:
        """Whether rollouts must record the scripted expert's chunk at each decision."""
        ...

    def factors(self, batch: Batch) -> Factors:
        """The teacher's factors of every decision of the batch, without gradient."""
        ...


@dataclass(frozen=True)
class PolicyTeacher:
    """A frozen policy scoring the student's own decisions, at the temperature stored in them."""

    policy: ChunkPolicy
    needs_expert: bool = False

    @torch.no_grad()
    def factors(self, batch: Batch) -> Factors:
        """Factors `(D, F)` of the whole batch, computed in slices and cached by the caller."""
        parts = []
        for index in torch.arange(len(batch)).split(SCORING_BATCH):
            context = self.policy.encode(batch.obs_at(index))
            parts.append(self.policy.factors(context, batch.decision[index], batch.mask[index]))
        return type(parts[0]).cat(parts)


@dataclass(frozen=True)
class ExpertTeacher:
    """The scripted expert as N(m, std²) around its chunk m at each state, expressed in the student's own factors."""

    student: ChunkPolicy
    std: float
    """Standard deviation in normalised action units."""
    needs_expert: bool = True

    @torch.no_grad()
    def factors(self, batch: Batch) -> Factors:
        """Factors `(D, F)` implied by the recorded expert chunks."""
        if batch.expert_chunk is None:
            raise ValueError("the batch holds no expert chunks; roll out with expert=True")
        return self.student.implied_factors(batch.expert_chunk, self.std, batch.decision, batch.mask)


def require_same_family(student: VlaPolicy, teacher: VlaPolicy) -> None:
    """Refuse a teacher whose log-ratios with the student would be meaningless.

    Compares spec (entries and cameras, action, rates, chunk), head (bins, or noise process and its steps) and normalisation. The sampling
    temperature is part of each decision and thus the same for both by construction.

    Raises:
        SpecError: naming the field that differs.
    """
    student.spec.require_same(teacher.spec, "student and teacher")
    mine, theirs = (flatten(policy.config.head.model_dump(), "head") for policy in (student, teacher))
    for field in [*mine, *(field for field in theirs if field not in mine)]:
        if mine.get(field) != theirs.get(field):
            raise SpecError(
                f"student and teacher disagree on {field}: {mine.get(field, 'absent')} against {theirs.get(field, 'absent')};"
                f" train both with the same policy.{field}"
            )
    theirs = teacher.normalizer.state_dict()
    for name, value in student.normalizer.state_dict().items():
        if not torch.equal(value, theirs[name]):
            raise SpecError(f"student and teacher disagree on normalisation {name}: {value.tolist()} against {theirs[name].tolist()}")
