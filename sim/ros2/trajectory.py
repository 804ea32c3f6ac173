"""A joint trajectory as the joint_trajectory_controller of ros2_control follows it, without ROS.

P points · J joints
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

NS_PER_S = 1_000_000_000


class CommandRefusedError(ValueError):
    """A controller does not accept a command."""


@dataclass(frozen=True)
class Waypoints:
    """What a JointTrajectory message says, in the order of its own joint names."""

    joints: tuple[str, ...]
    stamp_ns: int
    """When the trajectory starts; 0 means on arrival."""
    offset_ns: tuple[int, ...]
    """`(P,)` of each point from the start."""
    positions: tuple[Sequence[float], ...]
    """`(P, J)`."""
    velocities: tuple[Sequence[float], ...]
    """`(P, J)`; a point without velocities has an empty one."""


@dataclass(frozen=True)
class Trajectory:
    """A curve through points, at rest at its last one. Cubic where velocities are given, else linear."""

    times_ns: np.ndarray
    """`(P,)` int64, increasing."""
    positions: np.ndarray
    """`(P, J)`."""
    velocities: np.ndarray | None
    """`(P, J)`, `None` for straight lines."""

    @property
    def end_ns(self) -> int:
        """When the last point is reached."""
        return int(self.times_ns[-1])

    def sample(self, now_ns: int) -> tuple[np.ndarray, np.ndarray]:
        """Position and velocity, each `(J,)`; the end points hold outside the curve."""
        still = np.zeros(self.positions.shape[1])
        if now_ns >= self.end_ns:
            return self.positions[-1].copy(), still
        if now_ns < self.times_ns[0]:
            return self.positions[0].copy(), still
        i = int(np.searchsorted(self.times_ns, now_ns, side="right")) - 1
        span_s = float(self.times_ns[i + 1] - self.times_ns[i]) / NS_PER_S
        s = float(now_ns - self.times_ns[i]) / NS_PER_S / span_s
        start, end = self.positions[i], self.positions[i + 1]
        if self.velocities is None:
            return start + s * (end - start), (end - start) / span_s
        return _cubic(start, span_s * self.velocities[i], end, span_s * self.velocities[i + 1], s, span_s)


def _cubic(
    start: np.ndarray, start_slope: np.ndarray, end: np.ndarray, end_slope: np.ndarray, s: float, span_s: float
) -> tuple[np.ndarray, np.ndarray]:
    """Hermite polynomial at `s` in [0, 1]: position, and velocity per second; slopes are per unit of `s`."""
    a = 2 * start - 2 * end + start_slope + end_slope
    b = 3 * end - 3 * start - 2 * start_slope - end_slope
    return ((a * s + b) * s + start_slope) * s + start, ((3 * a * s + 2 * b) * s + start_slope) / span_s


class TrajectoryFollower:
    """What the controller is following now. A new trajectory replaces the present one from its stamp on."""

    def __init__(self, joints: Sequence[str], position: np.ndarray, end_moving: bool = False) -> None:
        """Hold `position` `(J,)`.

        Args:
            joints: names in the order of positions.
            position: where to hold.
            end_moving: accept trajectories whose last point has a velocity (`allow_nonzero_velocity_at_trajectory_end`).
        """
        self.joints = tuple(joints)
        self._end_moving = end_moving
        self._parts: list[tuple[int, Trajectory]]
        self.hold(position)

    def hold(self, position: np.ndarray) -> None:
        """Drop everything and stay at `position` `(J,)`."""
        self._parts = [(0, Trajectory(np.zeros(1, np.int64), np.array(position, float)[None], None))]

    def sample(self, now_ns: int) -> np.ndarray:
        """Where the joints should be, `(J,)`."""
        return self._sample(now_ns)[0]

    def accept(self, message: Waypoints, now_ns: int) -> None:
        """Follow a new trajectory; one without points stops where the joints should be now.

        Raises:
            CommandRefusedError: joints, sizes, values or times are not acceptable; what was followed before goes on.
        """
        if not message.positions and not message.joints:
            self.hold(self.sample(now_ns))
            return
        order = self._order(message.joints)
        if not message.positions:
            self.hold(self.sample(now_ns))
            return
        positions, velocities = _table("position", message.positions, order), None
        if any(len(row) for row in message.velocities):
            velocities = _table("velocity", message.velocities, order)
        self._check_times(message.offset_ns)
        if velocities is not None and velocities[-1].any() and not self._end_moving:
            raise CommandRefusedError(f"the last point must be at rest, its velocities are {velocities[-1].tolist()}")
        start_ns = message.stamp_ns or now_ns
        times = np.array(message.offset_ns, np.int64) + start_ns
        if times[-1] <= now_ns:
            raise CommandRefusedError(f"the trajectory ended {(now_ns - times[-1]) / NS_PER_S:.3f} s ago")
        self._replace(times, positions, velocities, max(start_ns, now_ns), now_ns)

    def _replace(self, times: np.ndarray, positions: np.ndarray, velocities: np.ndarray | None, start_ns: int, now_ns: int) -> None:
        """Go on as before until `start_ns`, then from there to the first point that is still to come."""
        position, velocity = self._sample(start_ns)
        later = times > start_ns
        knots = np.concatenate([[start_ns], times[later]])
        path = np.concatenate([position[None], positions[later]])
        slopes = None if velocities is None else np.concatenate([velocity[None], velocities[later]])
        present = sum(start <= now_ns for start, _ in self._parts) - 1
        kept = [part for part in self._parts[present:] if part[0] < start_ns or part is self._parts[present]]
        self._parts = [*kept, (start_ns, Trajectory(knots, path, slopes))]

    def _sample(self, now_ns: int) -> tuple[np.ndarray, np.ndarray]:
        """By the latest part that has started."""
        return next(curve for start, curve in reversed(self._parts) if start <= now_ns).sample(now_ns)

    def _order(self, joints: tuple[str, ...]) -> list[int]:
        """Where each of our joints stands in a message."""
        if sorted(joints) != sorted(self.joints):
            raise CommandRefusedError(f"the trajectory is for joints {list(joints)}, this controller moves {list(self.joints)}")
        return [joints.index(name) for name in self.joints]

    def _check_times(self, offsets: tuple[int, ...]) -> None:
        if offsets[0] < 0 or any(b <= a for a, b in pairwise(offsets)):
            raise CommandRefusedError(f"time_from_start must increase from point to point, it is {[t / NS_PER_S for t in offsets]} s")


def _table(what: str, rows: Sequence[Sequence[float]], order: list[int]) -> np.ndarray:
    """`(P, J)` in our order of joints."""
    if any(len(row) != len(order) for row in rows):
        raise CommandRefusedError(f"every point needs one {what} per joint ({len(order)}), the points have {[len(row) for row in rows]}")
    table = np.array(rows, float)[:, order]
    if not np.isfinite(table).all():
        raise CommandRefusedError(f"a {what} is not a finite number")
    return table
