"""A robot behind LeRobot's driver as a participant of ROS 2: joint states and images out, positions in.

It is what a vendor's controller is for other robots, and like one it takes no command on trust: one that is broken, or leads out of the
joints' limits or far from where they are, is refused whole. Where commands stop, the servos hold the last one.

J commanded coordinates of the profile
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from rclpy.node import Node
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64MultiArray

from robot.lerobot_hardware import Hardware, HardwareError, Measured
from robot.profile import Controller, RobotProfile
from robot.ros2.messages import NS_PER_S, to_image, to_time
from robot.ros2.wiring import LIFESPAN_PERIODS

STATE_QOS = QoSProfile(depth=10)
"""Reliable, volatile: what the joint_state_broadcaster of ros2_control publishes with."""
LOST_S = 2.0
"""Without an answer of the robot before the driver gives up."""


@dataclass(frozen=True)
class Command:
    """Positions that somebody asked for, of one controller's joints."""

    index: np.ndarray
    """`(C,)` of the joints in the profile's order."""
    position: np.ndarray
    """As it was sent; its length is not checked yet."""
    heard_s: float
    """`time.monotonic`."""


def refusal(command: Command, measured: np.ndarray, profile: RobotProfile) -> str:
    """Why a command is not obeyed, empty if it is.

    The filter keeps commands within the leash of a measurement that may be `ages.state_s` old, and leads a joint that starts outside of
    its limits only inward. So commands that go further have not come through it.

    Args:
        command: of one controller.
        measured: `(J,)` positions.
        profile: the robot's.
    """
    if len(command.position) != len(command.index):
        return f"it has {len(command.position)} positions, the controller has {len(command.index)} joints"
    for position, joint, now in zip(command.position, command.index, measured[command.index], strict=True):
        limits = profile.joints[joint]
        low, high = min(limits.position[0], now), max(limits.position[1], now)
        reach = limits.leash + limits.velocity * profile.ages.state_s
        if not np.isfinite(position):
            return f"{limits.name} is {position}"
        if not low <= position <= high:
            return f"{limits.name} should go to {position:.3f} {limits.unit}, outside of {low:.3f} to {high:.3f}"
        if abs(position - now) > reach:
            return f"{limits.name} should go from {now:.3f} to {position:.3f} {limits.unit}, further than {reach:.3f} at once"
    return ""


class LeRobotDriver:
    """One robot on the graph. Subscriptions only note what they hear; `step`, in one thread, is all that calls LeRobot."""

    def __init__(self, node: Node, hardware: Hardware, profile: RobotProfile) -> None:
        """Join the graph with a robot that is connected. Raises `HardwareError` for a camera that the profile lacks."""
        if unknown := sorted(set(hardware.cameras) - set(profile.topics.images)):
            known = ", ".join(profile.topics.images) or "none"
            raise HardwareError(f"the profile of {profile.name} has no topic for camera {', '.join(unknown)}; it has {known}")
        self._node, self._hardware, self._profile = node, hardware, profile
        self._measured: Measured | None = None
        self._goal: np.ndarray | None = None
        """`(J,)` that the servos hold."""
        self._heard: dict[str, Command] = {}
        """The newest command by topic, until it is obeyed or refused."""
        self._obeyed_s = np.inf
        self.refused = 0
        """Commands so far."""
        self._states = node.create_publisher(JointState, profile.topics.joint_states, STATE_QOS)
        self._images = {
            camera: node.create_publisher(Image, profile.topics.images[camera], qos_profile_sensor_data) for camera in hardware.cameras
        }
        for controller in profile.controllers:
            self._listen(controller)

    def step(self) -> None:
        """Obey the newest commands, measure, publish. Raises `HardwareError` once the robot has not answered for `LOST_S`."""
        now_s = time.perf_counter()
        try:
            self._obey()
            self._measured = self._hardware.read()
        except (OSError, RuntimeError) as error:
            if self._measured is None or now_s - self._measured.read_s > LOST_S:
                raise HardwareError(f"the {self._profile.name} does not answer any more: {error}") from error
            self._node.get_logger().warning(f"no measurement: {error}", throttle_duration_sec=1.0)
            return
        self._publish(self._measured)

    def _obey(self) -> None:
        now_s, position = time.monotonic(), self._goal
        for topic in tuple(self._heard):
            command = self._heard.pop(topic)
            if why := self._refusal(command, now_s):
                self.refused += 1
                self._node.get_logger().error(f"a command on {topic} is refused: {why}", throttle_duration_sec=1.0)
                continue
            assert self._measured is not None  # otherwise it was refused
            position = self._measured.position.copy() if position is None else position.copy()
            position[command.index] = command.position
            self._obeyed_s = now_s
        if position is not None and position is not self._goal:
            self._hardware.write(position)
            self._goal = position
        if now_s - self._obeyed_s > self._profile.safety.watchdog_misses * self._profile.period_s:
            self._obeyed_s = np.inf
            self._node.get_logger().warning("no commands any more; the servos hold the last one")

    def _refusal(self, command: Command, now_s: float) -> str:
        if self._measured is None or time.perf_counter() - self._measured.read_s > self._profile.ages.state_s:
            return "the joints were not measured lately"
        if now_s - command.heard_s > LIFESPAN_PERIODS * self._profile.period_s:
            return f"it waited for {now_s - command.heard_s:.2f} s"
        return refusal(command, self._measured.position, self._profile)

    def _publish(self, measured: Measured) -> None:
        message = JointState(name=list(self._profile.names), position=measured.position)
        message.header.stamp = to_time(self._clock_ns(measured.read_s))
        for camera, (pixels, taken_s) in measured.images.items():
            self._images[camera].publish(to_image(pixels, camera, self._clock_ns(taken_s)))
        self._states.publish(message)

    def _clock_ns(self, at_s: float) -> int:
        """By the ROS clock, of a time of `time.perf_counter`."""
        return self._node.get_clock().now().nanoseconds - round((time.perf_counter() - at_s) * NS_PER_S)

    def _listen(self, controller: Controller) -> None:
        index = np.array([self._profile.names.index(name) for name in controller.joints])

        def hear(message: Float64MultiArray) -> None:
            self._heard[controller.topic] = Command(index, np.array(message.data, np.float64), time.monotonic())

        self._node.create_subscription(Float64MultiArray, controller.topic, hear, QoSProfile(depth=1))
