"""The controllers of the robot: what subscribes to command topics and says, at every servo step, where the joints should be.

C commanded coordinates: the arm's joints [rad], then the gripper's opening from 0 to 1
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
from rclpy.node import Node
from rclpy.qos import QoSProfile
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from sim.ros2.trajectory import NS_PER_S, CommandRefusedError, TrajectoryFollower, Waypoints
from sim.ros2.wiring import ControllerWiring

COMMAND_QOS = QoSProfile(depth=10)
"""Reliable, volatile: what the controllers of ros2_control subscribe with."""


class Controller(Protocol):
    """One controller of ros2_control."""

    message_type: type

    def hold(self, position: np.ndarray) -> None:
        """Drop all motion and stay at `position` `(J,)`."""
        ...

    def sample(self, now_ns: int) -> np.ndarray:
        """Where the joints should be, `(J,)`."""
        ...

    def accept(self, message: Any, now_ns: int) -> None:
        """Take a message of `message_type`. Raises `CommandRefusedError`; what was done before goes on."""
        ...


class ForwardCommandController:
    """The last values hold."""

    message_type = Float64MultiArray

    def __init__(self, joints: Sequence[str]) -> None:
        self._joints = tuple(joints)
        self._position = np.zeros(len(joints))

    def hold(self, position: np.ndarray) -> None:
        self._position = np.array(position, float)

    def sample(self, now_ns: int) -> np.ndarray:
        del now_ns
        return self._position

    def accept(self, message: Float64MultiArray, now_ns: int) -> None:
        del now_ns
        position = np.array(message.data, float)
        if position.shape != (len(self._joints),):
            raise CommandRefusedError(
                f"{len(position)} values, this controller moves {len(self._joints)} joints: {', '.join(self._joints)}"
            )
        if not np.isfinite(position).all():
            raise CommandRefusedError(f"a value is not a finite number: {position.tolist()}")
        self._position = position


class JointTrajectoryController:
    """Follows trajectories as `sim.ros2.trajectory` says."""

    message_type = JointTrajectory

    def __init__(self, joints: Sequence[str]) -> None:
        self._follower = TrajectoryFollower(joints, np.zeros(len(joints)))

    def hold(self, position: np.ndarray) -> None:
        self._follower.hold(position)

    def sample(self, now_ns: int) -> np.ndarray:
        return self._follower.sample(now_ns)

    def accept(self, message: JointTrajectory, now_ns: int) -> None:
        self._follower.accept(to_waypoints(message), now_ns)


KINDS: dict[str, type[ForwardCommandController | JointTrajectoryController]] = {
    "joint_trajectory": JointTrajectoryController,
    "forward_command": ForwardCommandController,
}


@dataclass
class Reception:
    """What became of the commands so far."""

    accepted: int = 0
    refused: int = 0
    last_refusal: str = ""


class Controllers:
    """All controllers of a robot, in the order of its coordinates."""

    def __init__(self, node: Node, wiring: Sequence[ControllerWiring], now_ns: Callable[[], int], on_command: Callable[[], None]) -> None:
        """Subscribe.

        Args:
            node: who subscribes.
            wiring: topic, kind and joints of each controller.
            now_ns: the robot's time.
            on_command: called after every accepted command.
        """
        self.reception = Reception()
        self.fault = "none"
        """One of `COMMAND_FAULTS`."""
        self.closed = ""
        """Why the robot takes no commands; empty while it does."""
        self._node, self._now_ns, self._on_command = node, now_ns, on_command
        self._controllers: list[Controller] = [KINDS[each.kind](each.joints) for each in wiring]
        self._sizes = [len(each.joints) for each in wiring]
        self._heard = [False] * len(wiring)
        for i, (each, controller) in enumerate(zip(wiring, self._controllers, strict=True)):
            node.create_subscription(controller.message_type, each.topic, partial(self._receive, i), COMMAND_QOS)

    @property
    def all_heard(self) -> bool:
        """Whether every controller was sent something since `listen`."""
        return all(self._heard)

    def listen(self) -> None:
        """Begin a new round of `all_heard`."""
        self._heard = [False] * len(self._controllers)

    def sample(self, now_ns: int) -> np.ndarray:
        """Where the joints should be, `(C,)`."""
        return np.concatenate([controller.sample(now_ns) for controller in self._controllers])

    def hold(self, position: np.ndarray) -> None:
        """Drop all motion and stay at `position` `(C,)`."""
        for controller, part in zip(self._controllers, np.split(position, np.cumsum(self._sizes)[:-1]), strict=True):
            controller.hold(part)

    def _receive(self, i: int, message: Any) -> None:
        """A message for controller i. Counts and logs what is refused; never raises."""
        self._heard[i] = True
        if self.fault == "ignore":
            return
        try:
            if self.fault == "refuse" or self.closed:
                raise CommandRefusedError(self.closed or "the robot refuses all commands")
            self._controllers[i].accept(message, self._now_ns())
        except CommandRefusedError as error:
            self.reception.refused += 1
            self.reception.last_refusal = str(error)
            self._node.get_logger().warning(f"command refused: {error}", throttle_duration_sec=1.0)
            return
        self.reception.accepted += 1
        self._on_command()


def to_waypoints(message: JointTrajectory) -> Waypoints:
    """The part of a message that the controller follows. Raises `CommandRefusedError` for accelerations and efforts."""
    points: list[JointTrajectoryPoint] = list(message.points)
    if any(len(point.accelerations) or len(point.effort) for point in points):
        raise CommandRefusedError("points carry accelerations or efforts; this controller follows positions and velocities")
    return Waypoints(
        tuple(message.joint_names),
        message.header.stamp.sec * NS_PER_S + message.header.stamp.nanosec,
        tuple(point.time_from_start.sec * NS_PER_S + point.time_from_start.nanosec for point in points),
        tuple(tuple(point.positions) for point in points),
        tuple(tuple(point.velocities) for point in points),
    )
