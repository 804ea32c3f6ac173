"""From JointState messages, which may be partial, reordered or broken, to complete samples in the profile's joint order.

C commanded coordinates of the profile
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from robot.ros2.stamps import Aligner, Stamps

if TYPE_CHECKING:
    from sensor_msgs.msg import JointState

UNSEEN = -1


@dataclass(frozen=True)
class JointSample:
    """Every joint's latest state."""

    position: np.ndarray
    """`(C,)` in the units of the message."""
    velocity: np.ndarray
    """`(C,)`, by difference of positions where the robot reports none."""
    effort: np.ndarray
    """`(C,)`, 0 where the robot reports none."""
    stamps: Stamps
    """Of the message that completed the sample; `monotonic_ns` is the one of the joint heard longest ago."""
    capture_ns: int
    """When it was taken, by the ROS clock."""
    sequence: int
    """Of complete samples, from 0."""


class JointStates:
    """Assembles samples. `receive` never raises: what cannot be used is counted, and ages tell the rest."""

    def __init__(self, joints: Sequence[str]) -> None:
        self.joints = tuple(joints)
        self.broken = 0
        """Messages with fewer positions than names, or numbers that are not finite."""
        self.last_problem = ""
        self.offset = Aligner()
        count = len(self.joints)
        self._index = {name: i for i, name in enumerate(self.joints)}
        self._values = np.zeros((3, count))
        self._heard_ns = np.full(count, UNSEEN, np.int64)
        self._header_ns = np.full(count, UNSEEN, np.int64)
        self._sequence = 0

    def receive(self, message: JointState, stamps: Stamps) -> JointSample | None:
        """Merge one message. Returns the sample if every joint has been heard by now."""
        rows = [(self._index[name], column) for column, name in enumerate(message.name) if name in self._index]
        if not rows:
            return None
        told = [np.array(values, float) for values in (message.position, message.velocity, message.effort)]
        problem = _problem(list(message.name), told, [column for _, column in rows])
        if problem:
            self.broken, self.last_problem = self.broken + 1, problem
            return None
        for joint, column in rows:
            self._merge(joint, column, told, stamps)
        if (self._heard_ns == UNSEEN).any():
            return None
        position, velocity, effort = self._values.copy()
        oldest = Stamps(stamps.header_ns, stamps.receive_ns, int(self._heard_ns.min()))
        self._sequence += 1
        return JointSample(position, velocity, effort, oldest, self.offset.capture_ns(stamps), self._sequence - 1)

    @property
    def missing(self) -> tuple[str, ...]:
        """Joints that no message has named so far."""
        return tuple(name for name, heard in zip(self.joints, self._heard_ns, strict=True) if heard == UNSEEN)

    def _merge(self, joint: int, column: int, told: list[np.ndarray], stamps: Stamps) -> None:
        position, velocity, effort = told
        elapsed_ns = stamps.header_ns - self._header_ns[joint]
        if len(velocity) > column:
            self._values[1, joint] = velocity[column]
        elif self._header_ns[joint] != UNSEEN and elapsed_ns > 0:
            self._values[1, joint] = (position[column] - self._values[0, joint]) / (elapsed_ns / 1e9)
        self._values[0, joint] = position[column]
        self._values[2, joint] = effort[column] if len(effort) > column else 0.0
        self._heard_ns[joint], self._header_ns[joint] = stamps.monotonic_ns, stamps.header_ns


def _problem(names: list[str], told: list[np.ndarray], columns: list[int]) -> str:
    """Why a message cannot be used, empty if it can."""
    if max(columns) >= len(told[0]):
        return f"{len(names)} names but {len(told[0])} positions"
    for what, values in zip(("position", "velocity"), told[:2], strict=True):
        for column in columns:
            if column < len(values) and not np.isfinite(values[column]):
                return f"the {what} of {names[column]} is {values[column]}"
    return ""
