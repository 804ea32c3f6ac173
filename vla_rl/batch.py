"""What a rollout leaves behind: flat rows, one per decision, keyed by globally unique ids.

D decisions of all episodes, in (episode, decision step) order · K chunk steps · A action dimensions · F factors
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import torch

from policies.factors import Decision
from policies.interface import Observation
from sim.resets import State


@dataclass(frozen=True)
class Episode:
    """One episode to run: `instruction` overrides the environment's own (used for shuffled instructions)."""

    task: str
    seed: int
    instruction: str | None = None
    start: State | None = None
    """State of a bank to start from in place of the seed's own; training seeds only."""


@dataclass(frozen=True)
class EpisodeResult:
    """How one episode went."""

    episode: Episode
    instruction: str
    success: bool
    """True at any control step (episodes end at the first success)."""
    success_at_end: bool
    """True at the last executed control step."""
    steps: int
    """Control steps executed."""
    reward: float
    """Sum of the task's dense reward."""
    diverged: bool = False
    """The physics broke down, which ended the episode without success."""


@dataclass(frozen=True)
class Batch:
    """Decisions of a rollout, for any on-policy objective."""

    obs: Observation
    """Entries `(D, ...)`."""
    decision: Decision
    """What the behaviour policy drew, with mode and temperature."""
    chunk: torch.Tensor
    """`(D, K, A)` float32 actions in the spec's units."""
    log_prob: torch.Tensor
    """`(D, F)` behaviour log-probability of each factor; F is 0 for greedy decisions, which drew nothing."""
    factor_mask: torch.Tensor
    """`(D, F)` bool: factors that count."""
    mask: torch.Tensor
    """`(D, K, A)` bool: executed steps and real action dimensions."""
    rollout: torch.Tensor
    """`(D,)` int64 id of the episode, unique over the whole run."""
    step: torch.Tensor
    """`(D,)` int64 decision step within the episode."""
    reward: torch.Tensor
    """`(D, K)` float32 reward per control step, zero where not executed."""
    terminated: torch.Tensor
    """`(D,)` bool: the episode ended with success inside this chunk."""
    truncated: torch.Tensor
    """`(D,)` bool: the time limit fell inside this chunk."""
    last_obs: Observation
    """`(E, ...)` the true last observation of each of the E episodes, in rollout order, for bootstrapping at time limits."""
    success: torch.Tensor
    """`(D,)` bool: the episode that the decision belongs to succeeded."""
    version: int
    """Policy version (update) that acted."""
    source: tuple[str, ...]
    """`(D,)` who acted: "policy", "teacher", "intervention". Where it was not the policy, `decision` was not executed."""
    group: torch.Tensor
    """`(D,)` int64: decisions of episodes that share task and initial state share a number."""
    teacher_chunk: torch.Tensor | None = None
    """`(D, K, A)` the teacher's chunk at each state, where it was asked for."""

    def __len__(self) -> int:
        return len(self.rollout)

    def to(self, device: torch.device) -> Batch:
        """Everything but observations, which `encode` moves minibatch by minibatch, on a device."""
        tensors = {f.name: getattr(self, f.name) for f in fields(self) if isinstance(getattr(self, f.name), torch.Tensor)}
        return replace(self, decision=self.decision.to(device), **{name: value.to(device) for name, value in tensors.items()})

    def obs_at(self, index: torch.Tensor) -> Observation:
        """Observations of the decisions `index` `(B,)` int64."""
        return rows_of(self.obs, index)

    def last_obs_at(self, index: torch.Tensor) -> Observation:
        """Last observations of the episodes `index` `(B,)` int64, in rollout order."""
        return rows_of(self.last_obs, index)

    def success_reward(self) -> torch.Tensor:
        """`(D, K)` 1 at the control step of an episode's success, else 0."""
        last = self.mask.any(2).sum(1, keepdim=True) - 1
        return torch.zeros_like(self.reward).scatter_(1, last, self.terminated[:, None].to(self.reward))


def rows_of(obs: Observation, index: torch.Tensor) -> Observation:
    """Observations `index` `(B,)` int64 of a batch of them, numpy or torch."""
    # numpy would take a tensor of one element for a number
    return {name: value[index.numpy() if isinstance(value, np.ndarray) else index] for name, value in obs.items()}
