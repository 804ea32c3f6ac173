"""From limited joint commands to the messages of real controllers.

    joint_trajectory   trajectory_msgs/JointTrajectory for the joint_trajectory_controller
    forward_command    std_msgs/Float64MultiArray for forward_command_controller and JointGroupPositionController

J joints of one controller
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

import numpy as np
from builtin_interfaces.msg import Duration
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from policies.interface import UserError


class AdapterError(UserError):
    """A robot's command interface cannot be spoken here."""


class CommandAdapter(Protocol):
    """How one controller wants to be told where its joints should be."""

    @property
    def topic(self) -> str:
        """Where commands go."""
        ...

    @property
    def message_type(self) -> type:
        """Of the commands."""
        ...

    def encode(self, position: np.ndarray, velocity: np.ndarray, damped: bool) -> Any:
        """The message for limited commands `(J,)` [rad or m] and `(J,)` [1/s]; both finite.

        `damped` asks for damping instead of positions; profiles see to it that only robots that take gains are asked.
        """
        ...


@dataclass(frozen=True)
class ForwardCommand:
    """Positions without names or stamps: the controller holds the last ones, so that whoever sends is the watchdog."""

    topic: str
    joints: tuple[str, ...]
    message_type: type = Float64MultiArray

    def encode(self, position: np.ndarray, velocity: np.ndarray, damped: bool = False) -> Float64MultiArray:
        """Positions in the controller's order of joints."""
        del velocity, damped
        return Float64MultiArray(data=position.tolist())


@dataclass(frozen=True)
class StreamedTrajectory:
    """A short trajectory per command: to the commanded state, then to rest within the acceleration limits.

    A single point would make the controller stop and start between commands; a point at time 0 would be a jump. Where the
    sender dies, the robot brakes by itself. The stamp stays 0, which means on arrival: the controller's clock may be
    another host's.

    The braking is constant deceleration of all joints over the same time T, at least `lead_s`:

        T = max_j |v_j| / a_j        q(lead + t) = q + v t (1 - t / 2T)        v(lead + t) = v (1 - t / T)

    which the cubics of the controller reproduce exactly from its three points at t = 0, T/2 and T.
    """

    topic: str
    joints: tuple[str, ...]
    lead_s: float
    """When the commanded state is to be reached, after arrival: two command periods bridge one lost message."""
    acceleration: tuple[float, ...]
    """`(J,)` limits [rad/s² or m/s²]."""
    message_type: type = JointTrajectory

    def encode(self, position: np.ndarray, velocity: np.ndarray, damped: bool = False) -> JointTrajectory:
        """Three points with velocities, the last one at rest."""
        del damped
        brake_s = max(self.lead_s, float(np.max(np.abs(velocity) / self.acceleration)))
        points = [
            _point(self.lead_s + t, position + velocity * t * (1 - t / (2 * brake_s)), velocity * (1 - t / brake_s))
            for t in (0.0, brake_s / 2, brake_s)
        ]
        return JointTrajectory(joint_names=list(self.joints), points=points)


def _point(time_s: float, position: np.ndarray, velocity: np.ndarray) -> JointTrajectoryPoint:
    seconds, nanoseconds = divmod(round(1e9 * time_s), 1_000_000_000)
    point = JointTrajectoryPoint(positions=position.tolist(), velocities=velocity.tolist())
    point.time_from_start = Duration(sec=seconds, nanosec=nanoseconds)
    return point


def import_message(package: str, name: str) -> type:
    """A message type that a robot's vendor provides, such as ("unitree_hg.msg", "LowCmd").

    Raises:
        AdapterError: the package is not installed here, or has no such type.
    """
    try:
        module = import_module(package)
    except ImportError as error:
        top = package.split(".")[0]
        raise AdapterError(
            f"the message type {package}.{name} is not installed ({error}): build the ROS 2 package '{top}' of the robot's vendor, "
            "source its workspace before starting, or choose another command interface in the robot's profile"
        ) from error
    if not hasattr(module, name):
        have: Sequence[str] = sorted(each for each in vars(module) if each[0].isupper())
        raise AdapterError(f"{package} has no type '{name}'; it has {', '.join(have)}")
    return getattr(module, name)
