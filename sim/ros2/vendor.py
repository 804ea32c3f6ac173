"""What lies between a controller and the motors of a real robot: delay, a firmware that aborts, its watchdog, coarse encoders.

C commanded coordinates: the joints [rad], then the openings of grippers.
"""

from __future__ import annotations

from collections import deque
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

NonNegative = Annotated[float, Field(ge=0)]


class Imperfections(BaseModel):
    """How the simulated robot falls short of an ideal one. The defaults are an ideal robot that aborts on jumps."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    command_delay_s: NonNegative = 0.0
    """From the controller to the motors [s]."""
    dry_friction_nm: NonNegative = 0.0
    """Of every arm joint [N·m]."""
    effort_scale: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the effort limits that the motors reach before they saturate."""
    encoder_step_rad: NonNegative = 0.0
    """Resolution of the arm's encoders [rad]; 0 is exact."""
    abort_jump_rad: Annotated[float, Field(gt=0)] | None = 0.2
    """A joint's target that moves further within one servo step aborts the motion, latched [rad]; `null` never does."""
    watchdog_s: Annotated[float, Field(gt=0)] | None = 1.0
    """Without a command for so long the robot stops where it is told to be now [s]; `null` follows to the end."""


class Firmware:
    """Judges every servo step's target before the motors see it. Aborts are latched until cleared."""

    def __init__(self, settings: Imperfections, target: np.ndarray, grippers: int = 1) -> None:
        """Start at rest at `target` `(C,)`, of which the last `grippers` may jump."""
        self._settings, self._joints = settings, len(target) - grippers
        self.aborted = ""
        """Why the robot refuses to move; empty while it does not."""
        self.watchdog = False
        """Whether the robot stands because commands stopped coming."""
        self._last_ns: int | None = None
        self.restart(target)

    def restart(self, target: np.ndarray) -> None:
        """Forget an abort and hold `target` `(C,)`."""
        self.aborted, self.watchdog, self._last_ns = "", False, None
        self._target = np.array(target, float)
        self._under_way: deque[tuple[int, np.ndarray]] = deque()
        self._at_motors = self._target

    def heard(self, now_ns: int) -> None:
        """A controller accepted a command."""
        self._last_ns, self.watchdog = now_ns, False

    @property
    def stopped(self) -> bool:
        """Whether targets are ignored."""
        return bool(self.aborted) or self.watchdog

    def judge(self, target: np.ndarray, now_ns: int) -> np.ndarray:
        """The target `(C,)` that reaches the motors in this servo step."""
        self._watch(now_ns)
        jump = np.abs(target - self._target)[: self._joints]
        limit = self._settings.abort_jump_rad
        if not self.aborted and limit is not None and jump.max() > limit:
            joint = int(jump.argmax())
            self.aborted = f"discontinuity: arm joint {joint} was told to jump by {jump[joint]:.3f} rad, {limit} are allowed"
        if not self.stopped:
            self._target = target
        self._under_way.append((now_ns + round(1e9 * self._settings.command_delay_s), self._target))
        while self._under_way and self._under_way[0][0] <= now_ns:
            self._at_motors = self._under_way.popleft()[1]
        return self._at_motors

    @property
    def target(self) -> np.ndarray:
        """`(C,)` that was let through last."""
        return self._target.copy()

    def _watch(self, now_ns: int) -> None:
        limit = self._settings.watchdog_s
        if limit is not None and self._last_ns is not None and now_ns - self._last_ns > round(1e9 * limit):
            self.watchdog, self._last_ns = True, None


def quantise(values: np.ndarray, step: float) -> np.ndarray:
    """Values as an encoder of resolution `step` reports them."""
    return np.round(values / step) * step if step else values
