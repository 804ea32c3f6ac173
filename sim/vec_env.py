"""The vectorised environment contract: chunk steps, snapshots, explicit resets, no hidden auto-reset.

N environments addressed by id · n the ids of one call · K chunk steps · A action dimensions
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from policies.interface import ActionSpec, Entry, Observation

if TYPE_CHECKING:
    from sim.resets import State

Render = Literal["last", "all", "none"]
PICTURE = "picture"
"""Frames of an environment whose policies see no image have it here instead, for people, `(n, H, W, 3)` uint8."""


@dataclass(frozen=True)
class EnvSpec:
    """What an environment offers: the part of a `PolicySpec` that the simulator decides."""

    embodiment: str
    entries: tuple[Entry, ...]
    action: ActionSpec
    control_hz: float


@dataclass(frozen=True)
class ChunkStep:
    """Result of K control steps in n environments.

    An episode that ends inside the chunk stops there; entries of `reward` and `success` beyond
    `executed` are zero and false. `terminated` and `truncated` are never merged.
    """

    obs: Observation
    """Observation after the last executed step, `(n, ...)`. With render="none" image entries are zeros."""
    reward: np.ndarray
    """`(n, K)` float32, the task's own dense reward per control step."""
    success: np.ndarray
    """`(n, K)` bool, success after each executed control step."""
    terminated: np.ndarray
    """`(n,)` bool: the task ended the episode (success)."""
    truncated: np.ndarray
    """`(n,)` bool: the horizon was reached without success, or the robot fell."""
    executed: np.ndarray
    """`(n,)` int64 in 1..K: how many of the K actions ran."""
    diverged: np.ndarray
    """`(n,)` bool: the physics broke down, which truncated the episode; what is shown is its start."""
    frames: tuple[Observation, ...] = ()
    """With render="all": per executed control step the image and state entries `(n, ...)`, or state and `PICTURE`; an ended episode
    repeats its last."""

    @property
    def done(self) -> np.ndarray:
        """`(n,)` bool: the episode is over, for either reason."""
        return self.terminated | self.truncated


@dataclass(frozen=True)
class Demonstration:
    """One episode of a scripted expert, control step by control step: T steps, up to success or the horizon.

    The tabletop's go on for some steps after success.
    """

    task: str
    seed: int
    instruction: str
    obs: Observation
    """State entries, and image entries if they were asked for, before each step: `(T, ...)`."""
    action: np.ndarray
    """`(T, A)` float32, what the expert would do at each observation: the label."""
    executed: np.ndarray
    """`(T, A)` float32, what was done: the label plus noise, clipped to the action range."""
    success: np.ndarray
    """`(T,)` bool, success after each step."""

    @property
    def succeeded(self) -> bool:
        """Whether there was success."""
        return bool(self.success.any())


class PendingChunk(Protocol):
    """A chunk step under way in the simulator."""

    def result(self) -> ChunkStep:
        """Wait for the chunk to finish. Raises `SimulationError` if a worker failed."""
        ...


class PendingReset(Protocol):
    """A reset under way in the simulator."""

    def result(self) -> Observation:
        """Wait for the first observation `(n, ...)`. Raises `SimulationError` if a worker failed."""
        ...


class PendingDemonstration(Protocol):
    """A demonstration under way in the simulator."""

    def result(self) -> Demonstration:
        """Wait for the episode to end. Raises `SimulationError` if a worker failed."""
        ...


class VecEnv(Protocol):
    """N environments of one embodiment. Every call names the environments it is about."""

    spec: EnvSpec
    num_envs: int
    tasks: tuple[str, ...]
    horizon: int
    """Control steps after which the longest episode is truncated."""
    test_states: int | None
    """How many initial states each task has for test seeds; one for every seed if `None`."""

    @property
    def lockstep(self) -> tuple[tuple[int, ...], ...]:
        """Sets of environments that the simulator steps together: a chunk of all costs as much as of one. Empty if each steps alone."""
        ...

    def hosts(self, env_id: int) -> tuple[str, ...]:
        """Tasks that an environment can run: all, except where the simulator holds one scene per environment."""
        ...

    def reset(
        self, env_ids: Sequence[int], seeds: Sequence[int], tasks: Sequence[str], starts: Sequence[State | None] | None = None
    ) -> Observation:
        """`submit_reset(...).result()`."""
        ...

    def submit_reset(
        self, env_ids: Sequence[int], seeds: Sequence[int], tasks: Sequence[str], starts: Sequence[State | None] | None = None
    ) -> PendingReset:
        """Start episodes. The initial state and the instruction depend on (task, seed) alone.

        Args:
            env_ids: n environments.
            seeds: one per environment.
            tasks: one per environment.
            starts: under training seeds only, states of a bank to start from in place of the seeds' own initial states.
        """
        ...

    def submit_chunk(self, actions: np.ndarray, env_ids: Sequence[int], render: Render = "last") -> PendingChunk:
        """Start executing `actions` `(n, K, A)`; different environments may have chunks under way at once."""
        ...

    def step_chunk(self, actions: np.ndarray, env_ids: Sequence[int], render: Render = "last") -> ChunkStep:
        """`submit_chunk(...).result()`."""
        ...

    def snapshot(self, env_ids: Sequence[int]) -> list[Any]:
        """Full simulator state of each environment, to be passed to `restore` of the same or another environment id."""
        ...

    def restore(self, env_ids: Sequence[int], snapshots: Sequence[Any]) -> Observation:
        """Put environments back into snapshots; stepping on is then bit-identical. Returns the observation."""
        ...

    def expert_chunk(self, env_ids: Sequence[int], length: int) -> np.ndarray:
        """The scripted expert rolled `length` steps from each state and restored: `(n, length, A)` float32, clipped to the action range.

        It goes on past success and past the horizon, so that a chunk near the goal says to rest there. Where physics diverge the
        last action is repeated. Raises `SimulationError` where a task has no expert.
        """
        ...

    def submit_demonstrations(
        self, env_ids: Sequence[int], noise_std: float | Sequence[float], render: bool = True
    ) -> Sequence[PendingDemonstration]:
        """Start the scripted expert in each environment, from its present state to the end of its episode.

        Args:
            env_ids: environments that were just reset. They have ended afterwards.
            noise_std: standard deviation of Gaussian noise on executed actions, drawn from the seed; 0 for none. One for
                all or one per environment.
            render: keep an image per control step.
        """
        ...

    def privileged(self, env_ids: Sequence[int]) -> np.ndarray:
        """`(n, S)` float32 full simulator observation, for teachers, critics and resets only; never for a deployable policy."""
        ...

    def close(self) -> None:
        """Stop workers and free rendering contexts. Safe to call twice."""
        ...


def seat(env: VecEnv, tasks: Sequence[str]) -> list[int | None]:
    """An environment of its own for each task, in order; `None` for tasks that find no free one that can run them."""
    free = list(range(env.num_envs))
    seats: list[int | None] = []
    for task in tasks:
        found = next((env_id for env_id in free if task in env.hosts(env_id)), None)
        if found is not None:
            free.remove(found)
        seats.append(found)
    return seats


class SimulationError(RuntimeError):
    """The simulator failed or was asked for something it cannot do."""


SEED_RANGES: dict[str, range] = {
    "train": range(0, 1_000_000),
    "validation": range(1_000_000, 1_100_000),
    "test": range(2_000_000, 2_100_000),
}
"""Disjoint ranges of initial-state seeds: training, validation (sweeps, gates), test (reported numbers only)."""
