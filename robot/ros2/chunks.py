"""Chunks of future joint positions as trajectory_msgs/JointTrajectory: header.stamp is the observation's time.

    header.stamp      t0, when the observation was taken that the chunk was computed from, by the ROS clock
    header.frame_id   who commands
    joint_names       every commanded coordinate, in any order
    points[k]         positions at t0 + time_from_start, one policy period apart

K steps · J commanded coordinates of the profile
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from policies.interface import UserError

if TYPE_CHECKING:
    from trajectory_msgs.msg import JointTrajectory

UNEVEN = 0.01
"""Largest deviation of a step from the mean period, as a share of it."""
NS_PER_S = 1_000_000_000


class ChunkError(UserError):
    """A chunk cannot be executed."""


@dataclass(frozen=True)
class ChunkSample:
    """One chunk as it came in."""

    t0_ns: int
    """When the observation was taken, by the ROS clock."""
    start_ns: int
    """When step 0 is to be commanded."""
    dt_s: float
    """Between steps."""
    positions: np.ndarray
    """`(K, J)` in the profile's order and units."""
    commander: str


def to_chunk(message: Any, joints: Sequence[str]) -> ChunkSample:
    """Read a JointTrajectory message.

    Raises:
        ChunkError: it does not command every coordinate at two or more even steps of finite positions.
    """
    names = list(message.joint_names)
    if sorted(names) != sorted(joints):
        raise ChunkError(f"the chunk is for joints {names}, the robot commands {list(joints)}")
    times_ns = np.array([point.time_from_start.sec * NS_PER_S + point.time_from_start.nanosec for point in message.points], np.int64)
    if len(times_ns) < 2:
        raise ChunkError(f"a chunk needs two steps or more, got {len(times_ns)}")
    steps_s = np.diff(times_ns) / 1e9
    dt_s = float(steps_s.mean())
    if dt_s <= 0 or np.abs(steps_s - dt_s).max() > UNEVEN * dt_s:
        raise ChunkError(f"steps of a chunk are evenly spaced in time, got time_from_start {(times_ns / 1e9).tolist()} s")
    rows = [point.positions for point in message.points]
    if any(len(row) != len(names) for row in rows):
        raise ChunkError(f"every step needs {len(names)} positions, got {[len(row) for row in rows]}")
    positions = np.array(rows, float)[:, [names.index(name) for name in joints]]
    if not np.isfinite(positions).all():
        step, joint = np.argwhere(~np.isfinite(positions))[0]
        raise ChunkError(f"the position of {joints[joint]} at step {step} is {positions[step, joint]}")
    t0_ns = message.header.stamp.sec * NS_PER_S + message.header.stamp.nanosec
    return ChunkSample(t0_ns, t0_ns + int(times_ns[0]), dt_s, positions, message.header.frame_id)


def to_message(t0_ns: int, dt_s: float, positions: np.ndarray, joints: Sequence[str], commander: str) -> JointTrajectory:
    """The message of `(K, J)` positions that begin at `t0_ns`, as `to_chunk` reads it."""
    from builtin_interfaces.msg import Duration
    from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

    points = []
    for step, position in enumerate(positions):
        sec, nanosec = divmod(round(step * dt_s * NS_PER_S), NS_PER_S)
        points.append(JointTrajectoryPoint(positions=position.tolist(), time_from_start=Duration(sec=sec, nanosec=nanosec)))
    message = JointTrajectory(joint_names=list(joints), points=points)
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(t0_ns, NS_PER_S)
    message.header.frame_id = commander
    return message
