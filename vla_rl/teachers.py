"""Teachers: who scores what the student did, or shows what to do instead. A policy of the same family, or a scripted expert."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from policies.factors import Factors
from policies.interface import ChunkPolicy, Observation, Policy, SpecError, flatten
from sim.vec_env import VecEnv
from vla_rl.batch import Batch
from vla_rl.scoring import score


class Teacher(Protocol):
    """Scores the decisions that the student made, and can say what it would do."""

    @property
    def scores_by_chunk(self) -> bool:
        """Whether rollouts must record its chunk at each decision, for scoring them later."""
        ...

    def factors(self, batch: Batch) -> Factors:
        """The teacher's factors of every decision of the batch, without gradient."""
        ...

    def chunk(self, obs: Observation, env: VecEnv, env_ids: Sequence[int]) -> torch.Tensor:
        """What the teacher would do in each environment: `(n, K, A)` in the spec's units."""
        ...


@dataclass(frozen=True)
class PolicyTeacher:
    """A frozen policy scoring the student's own decisions, at the temperature stored in them."""

    policy: ChunkPolicy
    scores_by_chunk: bool = False

    def factors(self, batch: Batch) -> Factors:
        """Factors `(D, F)` of the whole batch, computed in slices and cached by the caller."""
        return score(self.policy, batch)

    @torch.no_grad()
    def chunk(self, obs: Observation, env: VecEnv, env_ids: Sequence[int]) -> torch.Tensor:
        """The policy's greedy chunks; the i-th row of a call always starts from the same noise."""
        generator = torch.Generator().manual_seed(0)
        return self.policy.sample(self.policy.encode(obs), "greedy", 1.0, generator)[0]


@dataclass(frozen=True)
class ExpertTeacher:
    """The scripted expert as N(m, std²) around its chunk m at each state, expressed in the student's own factors."""

    student: ChunkPolicy
    std: float
    """Standard deviation in normalised action units."""
    scores_by_chunk: bool = True

    @torch.no_grad()
    def factors(self, batch: Batch) -> Factors:
        """Factors `(D, F)` implied by the recorded expert chunks."""
        if batch.teacher_chunk is None:
            raise ValueError("the batch holds no teacher chunks; roll out with the teacher's `chunk`")
        return self.student.implied_factors(batch.teacher_chunk, self.std, batch.decision, batch.mask)

    def chunk(self, obs: Observation, env: VecEnv, env_ids: Sequence[int]) -> torch.Tensor:
        """The scripted expert rolled forward from snapshots."""
        return torch.as_tensor(env.expert_chunk(env_ids, self.student.spec.chunk))


def require_same_family(student: Policy, teacher: Policy) -> None:
    """Refuse a teacher whose log-ratios with the student would be meaningless.

    Compares spec (entries and cameras, action, rates, chunk), head (bins, or noise process and its steps) and
    normalisation. The sampling temperature is part of each decision and thus the same for both by construction.

    Raises:
        SpecError: naming the field that differs.
    """
    student.spec.require_same(teacher.spec, "student and teacher")
    if student.config.name != teacher.config.name:
        raise SpecError(f"student and teacher are of different families: {student.config.name} against {teacher.config.name}")
    mine, theirs = (flatten(policy.config.head.model_dump(), "head") for policy in (student, teacher))
    for field in [*mine, *(field for field in theirs if field not in mine)]:
        if mine.get(field) != theirs.get(field):
            raise SpecError(
                f"student and teacher disagree on {field}: {mine.get(field, 'absent')} against {theirs.get(field, 'absent')};"
                f" train both with the same policy.{field}"
            )
    statistics = teacher.statistics()
    for name, value in student.statistics().items():
        if not torch.equal(value, statistics[name]):
            raise SpecError(f"student and teacher disagree on normalisation {name}: {value.tolist()} against {statistics[name].tolist()}")
