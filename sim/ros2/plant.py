"""What a simulated robot's node drives: one robot in the episode of one task, stepped at its servo rate.

C commanded coordinates, grippers last
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sim.scene import PHYSICS_DT_S

SERVO_NS = round(1e9 * PHYSICS_DT_S)
"""One servo step [ns]."""


@dataclass(frozen=True)
class Reading:
    """What the robot's sensors say."""

    position: np.ndarray
    """`(C,)` [rad], and the gripper's opening."""
    velocity: np.ndarray
    """`(C,)` [1/s]."""
    effort: np.ndarray
    """`(C,)` [N·m], and the mean finger force [N]."""


@dataclass(frozen=True)
class Episode:
    """How the running task stands, by its own success function."""

    task: str
    seed: int
    instruction: str
    steps: int
    """Control steps of the task since the reset."""
    horizon: int
    success: bool
    """Whether the task was solved at some control step up to its horizon."""
    success_now: bool
    """Whether it was at the last one."""

    def after_step(self, success_now: bool) -> Episode:
        """One control step later."""
        steps = self.steps + 1
        success = self.success or (success_now and steps <= self.horizon)
        return Episode(self.task, self.seed, self.instruction, steps, self.horizon, success, success_now)


class Plant(Protocol):
    """One robot, one episode at a time."""

    episode: Episode
    tasks: tuple[str, ...]
    """Names of the tasks that it can be put to."""
    first_task: str
    """Where it starts if nothing is said."""
    grippers: int
    """How many of the coordinates are grippers: they may jump."""

    def reset(self, task: str, seed: int) -> None:
        """Start an episode. The initial state and the instruction depend on (task, seed) alone. Raises `SimulationError`."""
        ...

    @property
    def home(self) -> np.ndarray:
        """`(C,)` that the servos hold right after a reset."""
        ...

    def step(self, target: np.ndarray) -> None:
        """One servo step towards `target` `(C,)`. Raises `SimulationError` when the physics diverges."""
        ...

    def read(self) -> Reading:
        """Encoders, their rates, and motor efforts."""
        ...

    def render(self, camera: str) -> np.ndarray:
        """`(H, W, 3)` uint8 from a camera preset."""
        ...

    def close(self) -> None:
        """Free rendering memory."""
        ...
