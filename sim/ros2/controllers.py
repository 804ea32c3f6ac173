"""The controllers of the robot: what subscribes to command topics and says, at every servo step, where the joints should be.

C commanded coordinates: the arm's joints [rad], then the gripper's opening from 0 to 1
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from rclpy.node import Node
from rclpy.qos import QoSProfile
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from sim.ros2.trajectory import NS_PER_S, CommandRefusedError, TrajectoryFollower, Waypoints
from sim.ros2.wiring import ControllerWiring

COMMAND_QOS = QoSProfile(depth=10)
"""Reliable, volatile: what the controllers of ros2_control subscribe with."""


class ForwardFollower:
    """What the forward_command_controller does: the last values hold."""

    def __init__(self, joints: Sequence[str], position: np.ndarray) -> None:
        self.joints = tuple(joints)
        self.hold(position)

    def hold(self, position: np.ndarray) -> None:
        """Stay at `position` `(J,)`."""
        self._position = np.array(position, float)

    def sample(self, now_ns: int) -> np.ndarray:
        """Where the joints should be, `(J,)`."""
        del now_ns
        return self._position

    def accept(self, values: Sequence[float]) -> None:
        """Take new values. Raises `CommandRefusedError` for a wrong number of them, or one that is not finite."""
        position = np.array(values, float)
        if position.shape != (len(self.joints),):
            raise CommandRefusedError(f"{len(position)} values, this controller moves {len(self.joints)} joints: {', '.join(self.joints)}")
        if not np.isfinite(position).all():
            raise CommandRefusedError(f"a value is not a finite number: {position.tolist()}")
        self._position = position


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
        self._followers = [_follower(each) for each in wiring]
        self._heard = [False] * len(wiring)
        for i, each in enumerate(wiring):
            kind = JointTrajectory if each.kind == "joint_trajectory" else Float64MultiArray
            node.create_subscription(kind, each.topic, lambda message, i=i: self._receive(i, message), COMMAND_QOS)

    @property
    def all_heard(self) -> bool:
        """Whether every controller was sent something since `listen`."""
        return all(self._heard)

    def listen(self) -> None:
        """Begin a new round of `all_heard`."""
        self._heard = [False] * len(self._followers)

    def sample(self, now_ns: int) -> np.ndarray:
        """Where the joints should be, `(C,)`."""
        return np.concatenate([follower.sample(now_ns) for follower in self._followers])

    def hold(self, position: np.ndarray) -> None:
        """Drop all motion and stay at `position` `(C,)`."""
        start = 0
        for follower in self._followers:
            end = start + len(follower.joints)
            follower.hold(position[start:end])
            start = end

    def _receive(self, i: int, message: JointTrajectory | Float64MultiArray) -> None:
        """A message for controller i. Counts and logs what is refused; never raises."""
        self._heard[i] = True
        if self.fault == "ignore":
            return
        try:
            if self.fault == "refuse" or self.closed:
                raise CommandRefusedError(self.closed or "the robot refuses all commands")
            follower = self._followers[i]
            if isinstance(follower, TrajectoryFollower):
                follower.accept(to_waypoints(message), self._now_ns())
            else:
                follower.accept(message.data)
        except CommandRefusedError as error:
            self.reception.refused += 1
            self.reception.last_refusal = str(error)
            self._node.get_logger().warning(f"command refused: {error}", throttle_duration_sec=1.0)
            return
        self.reception.accepted += 1
        self._on_command()


def _follower(wiring: ControllerWiring) -> TrajectoryFollower | ForwardFollower:
    start = np.zeros(len(wiring.joints))
    return (TrajectoryFollower if wiring.kind == "joint_trajectory" else ForwardFollower)(wiring.joints, start)


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
