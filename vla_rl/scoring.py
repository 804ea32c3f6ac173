"""Factors of a rollout batch under any policy of the family. D decisions."""

from __future__ import annotations

import torch

from policies.factors import Factors
from policies.interface import ChunkPolicy
from vla_rl.batch import Batch

SCORING_BATCH = 256
"""Decisions scored at once without gradient."""


def factors_at(policy: ChunkPolicy, batch: Batch, index: torch.Tensor) -> Factors:
    """Factors of the decisions `index` `(B,)` int64."""
    return policy.factors(policy.encode(batch.obs_at(index)), batch.decision[index], batch.mask[index])


@torch.no_grad()
def mismatch(policy: ChunkPolicy, batch: Batch, rows: torch.Tensor) -> float:
    """Largest |log π_training − log π_rollout| over some decisions, before any step: rounding error, if all is well."""
    student = factors_at(policy, batch, rows)
    return (student.log_prob() - batch.log_prob[rows])[student.mask].abs().max().item()


@torch.no_grad()
def score(policy: ChunkPolicy, batch: Batch) -> Factors:
    """Factors of the whole batch, in slices."""
    parts = [factors_at(policy, batch, index) for index in torch.arange(len(batch)).split(SCORING_BATCH)]
    return type(parts[0]).cat(parts)
