"""Where setpoints come from, behind one interface: a policy's chunks, a recorded trajectory, an operator who jogs joints.

J joints, units of the profile. Times are monotonic seconds of the runtime's clock.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from queue import Empty, SimpleQueue
from typing import Protocol

import numpy as np

from robot.chunks import Border, Chunk, Rejected, Setpoint
from robot.limiter import Motion, limits_of, meeting_point, stopping_point
from robot.profile import RobotProfile
from robot.scheduler import ROUNDING_S, Scheduler, Timing, timing_of


class Source(Protocol):
    """Says at every tick what to ask for. Starts from, and is told, what really is commanded: so hand-overs are bumpless."""

    name: str
    """Of the lease."""

    def begin(self, now_s: float, last: Motion) -> None:
        """It may command from now on; the robot was last told `last`."""
        ...

    def setpoint(self, now_s: float) -> Setpoint:
        """What to ask for now."""
        ...

    def sent(self, now_s: float, motion: Motion) -> None:
        """What left for the robot."""
        ...

    def heard_s(self, now_s: float) -> float:
        """When there was a last sign of life of whoever is behind it."""
        ...

    def forget(self) -> None:
        """It may not command any more."""
        ...


class PolicySource:
    """Chunks of a policy that runs elsewhere. `offer` and `heartbeat` may be called from any thread."""

    def __init__(self, timing: Timing, report: Callable[[Border | Rejected], None] | None = None, name: str = "policy") -> None:
        """`report` is called with what became of each chunk, in the control thread."""
        self.name, self.scheduler, self._report = name, Scheduler(timing), report
        self._inbox: SimpleQueue[Chunk] = SimpleQueue()
        self._heard_s = -math.inf

    def offer(self, chunk: Chunk, now_s: float) -> None:
        """A chunk arrived."""
        self._inbox.put(chunk)
        self.heartbeat(now_s)

    def heartbeat(self, now_s: float) -> None:
        """The policy is alive."""
        self._heard_s = max(self._heard_s, now_s)

    def ready(self, now_s: float) -> bool:
        """Whether there is a step for a time, or a chunk to look at that may have it."""
        return not self._inbox.empty() or now_s <= self.scheduler.end_s + ROUNDING_S

    def begin(self, now_s: float, last: Motion) -> None:
        self.forget()
        self.scheduler.sent(now_s, last)

    def setpoint(self, now_s: float) -> Setpoint:
        for chunk in self._arrived():
            found = self.scheduler.accept(chunk, now_s)
            if self._report is not None:
                self._report(found)
        return self.scheduler.sample(now_s)

    def sent(self, now_s: float, motion: Motion) -> None:
        self.scheduler.sent(now_s, motion)

    def heard_s(self, now_s: float) -> float:
        return self._heard_s

    def forget(self) -> None:
        self._arrived()
        self.scheduler.forget()

    def _arrived(self) -> list[Chunk]:
        found = []
        while True:
            try:
                found.append(self._inbox.get_nowait())
            except Empty:
                return found


class ReplaySource:
    """A recorded trajectory, played once after a ramp to its start; then it holds the end."""

    name = "replay"

    def __init__(self, positions: np.ndarray, dt_s: float, profile: RobotProfile) -> None:
        """`positions` `(T, J)`, `dt_s` apart. Raises `ValueError` if they are not finite or not of the profile's joints."""
        if positions.ndim != 2 or positions.shape[1] != len(profile.names) or len(positions) < 2:
            raise ValueError(f"a trajectory of {profile.name} is (T ≥ 2, {len(profile.names)}), got {positions.shape}")
        if not np.isfinite(positions).all():
            raise ValueError(f"row {int(np.argmin(np.isfinite(positions).all(1)))} of the trajectory is not finite")
        self._positions, self._dt_s = positions, dt_s
        self._scheduler = Scheduler(timing_of(profile))
        self._end_s = 0.0
        self.refusal = ""
        """Why it does not play; empty if it does."""

    @property
    def end_s(self) -> float:
        """When the last position is due; known once it has begun."""
        return self._end_s

    def begin(self, now_s: float, last: Motion) -> None:
        self._scheduler.forget()
        self._scheduler.sent(now_s, last)
        self._end_s = 0.0

    def setpoint(self, now_s: float) -> Setpoint:
        if self._end_s == 0.0:
            found = self._scheduler.accept(Chunk(0, now_s, self._dt_s, self._positions), now_s)
            if isinstance(found, Rejected):
                self.refusal = f"{found.code}: {found.detail}"
                return Setpoint("waiting", None, np.zeros_like(self._positions[-1]))
            self._end_s, self.refusal = self._scheduler.end_s, ""
        if now_s >= self._end_s:
            return Setpoint("play", self._positions[-1], np.zeros_like(self._positions[-1]))
        return replace(self._scheduler.sample(now_s), age_s=0.0)

    def sent(self, now_s: float, motion: Motion) -> None:
        self._scheduler.sent(now_s, motion)

    def heard_s(self, now_s: float) -> float:
        return now_s

    def forget(self) -> None:
        self._scheduler.forget()


class JogSource:
    """An operator moves joints by velocities, from a keyboard or gamepad. Silence for `quiet_s` means: stand still."""

    name = "teleop"

    def __init__(self, profile: RobotProfile, quiet_s: float = 0.2) -> None:
        self._limits = limits_of(profile)
        self._limit = np.array([joint.velocity for joint in profile.joints])
        self._soft = np.array([joint.soft for joint in profile.joints])
        for gripper in profile.grippers:  # its ends lie inside of its limits, and policies' actions say no more
            column, ends = profile.names.index(gripper.joint), (gripper.closed, gripper.open)
            self._soft[column] = np.clip(self._soft[column], min(ends), max(ends))
        self._lead = 0.5 * np.array([joint.leash for joint in profile.joints])
        self._quiet_s = quiet_s
        self._velocity, self._heard_s = np.zeros_like(self._limit), -math.inf
        self._followed = self._target = np.zeros_like(self._limit)
        """Velocities that the target moves with, and the target."""
        self._last = Motion.rest(self._target)
        self._at_s = 0.0

    def jog(self, velocity: np.ndarray, now_s: float) -> None:
        """The operator's wish: `(J,)` velocities [unit/s]; values that are not finite mean 0. Any thread."""
        self._velocity = np.clip(np.where(np.isfinite(velocity), velocity, 0.0), -self._limit, self._limit)
        self._heard_s = now_s

    def begin(self, now_s: float, last: Motion) -> None:
        self._last, self._target = last, stopping_point(self._limits, last)  # it need not come back from there
        self._at_s, self._velocity, self._followed = now_s, np.zeros_like(self._limit), np.zeros_like(self._limit)

    def setpoint(self, now_s: float) -> Setpoint:
        velocity = self._velocity if now_s - self._heard_s <= self._quiet_s else np.zeros_like(self._limit)
        # A joint comes to another velocity, or to rest, and no further: it does not go faster to make up for its late start.
        soonest = meeting_point(self._limits, self._last, velocity)
        ahead = np.where(velocity != self._followed, soonest, self._target) + (now_s - self._at_s) * velocity
        # Not far ahead of that, so that a joint turns round at once where limits held it back.
        near = np.clip(ahead, soonest - self._lead, soonest + self._lead)
        self._target, self._followed, self._at_s = np.clip(near, *self._soft.T), velocity, now_s
        return Setpoint("play", self._target, np.where(self._target == ahead, velocity, 0.0))

    def sent(self, now_s: float, motion: Motion) -> None:
        self._last = motion

    def heard_s(self, now_s: float) -> float:
        return self._heard_s

    def forget(self) -> None:
        self._velocity = np.zeros_like(self._limit)
