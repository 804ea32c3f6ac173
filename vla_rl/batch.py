"""What a rollout leaves behind: flat rows, one per decision, keyed by globally unique ids.

D decisions of all episodes, in (episode, decision step) order · K chunk steps · A action dimensions · F factors
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from policies.factors import Decision
from policies.interface import Observation


@dataclass(frozen=True)
class Episode:
    """One episode to run: `instruction` overrides the environment's own (used for shuffled instructions)."""

    task: str
    seed: int
    instruction: str | None = None


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
    """`(D, F)` behaviour log-probability of each factor."""
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
    """`(D,)` who acted: "policy", "expert", "intervention"."""
    expert_chunk: torch.Tensor | None = None
    """`(D, K, A)` the scripted expert's chunk at each state, where it was asked for."""

    def __len__(self) -> int:
        return len(self.rollout)

    def obs_at(self, index: torch.Tensor) -> Observation:
        """Observations of the decisions `index` `(B,)` int64."""
        # numpy would take a tensor of one element for a number
        return {name: value[index.numpy() if isinstance(value, np.ndarray) else index] for name, value in self.obs.items()}
