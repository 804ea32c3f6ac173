"""What a robot shows and what it was told, as samples: for a policy that decides, and for a recording."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
from builtin_interfaces.msg import Time
from rclpy.node import Node
from sensor_msgs.msg import Image, JointState

from policies.interface import UserError
from robot.observation import NS_PER_S
from robot.profile import RobotProfile
from robot.ros2.images import rgb
from robot.ros2.joint_states import JointStates
from robot.ros2.reports import EVENT_QOS
from robot.ros2.stamps import Stamps
from robot.ros2.wiring import image_streams, state_reader, state_stream


class Sink(Protocol):
    """Who takes the samples, in the comms thread."""

    def felt(self, stamp_ns: int, position: np.ndarray) -> None:
        """Measured positions `(J,)`."""
        ...

    def saw(self, camera: str, stamp_ns: int, image: np.ndarray) -> None:
        """An image `(H, W, 3)` uint8, RGB. May raise `UserError`: the image is refused, and that is logged."""
        ...

    def commanded(self, stamp_ns: int, position: np.ndarray) -> None:
        """Positions `(J,)` that were really sent."""
        ...


class Feed:
    """Subscriptions to joint states, cameras and the bridge's commands."""

    def __init__(self, node: Node, profile: RobotProfile, sink: Sink, cameras: Sequence[str], shadow: bool = False) -> None:
        """Subscribe.

        Args:
            node: spun by the owner.
            profile: the robot.
            sink: who takes the samples.
            cameras: of the profile.
            shadow: nothing is commanded, so that the robot counts as told to be where it is.

        Raises:
            AdapterError: the robot is not read over ROS 2, or it lacks a camera.
        """
        self._node, self._sink, self._shadow = node, sink, shadow
        self._joints, self._columns = JointStates(profile.names), list(profile.names)
        self._reader = state_reader(profile)
        stream = state_stream(profile, self._reader)
        node.create_subscription(stream.message_type, stream.topic, self._felt, stream.qos)
        for each in image_streams(profile, tuple(cameras)):
            node.create_subscription(Image, each.topic, partial(self._saw, each.name), each.qos)
        node.create_subscription(JointState, f"/{profile.name}/bridge/command_sent", self._sent, EVENT_QOS)

    def _felt(self, state: Any) -> None:
        arrived = self._node.get_clock().now()
        message = self._reader.decode(state, arrived.to_msg())
        header_ns = nanoseconds(message.header.stamp)
        sample = self._joints.receive(message, Stamps(header_ns, arrived.nanoseconds, time.monotonic_ns()))
        if sample is not None:
            self._sink.felt(header_ns, sample.position)
            if self._shadow:
                self._sink.commanded(header_ns, sample.position)

    def _saw(self, camera: str, message: Image) -> None:
        try:
            self._sink.saw(camera, nanoseconds(message.header.stamp), rgb(message))
        except UserError as error:
            self._node.get_logger().warning(f"image of {camera} refused: {error}", throttle_duration_sec=1.0)

    def _sent(self, message: JointState) -> None:
        if list(message.name) != self._columns or len(message.position) != len(self._columns):
            names = ", ".join(message.name)
            self._node.get_logger().error(f"the bridge commands {names}: it runs with another profile", throttle_duration_sec=1.0)
            return
        self._sink.commanded(nanoseconds(message.header.stamp), np.array(message.position))


def nanoseconds(stamp: Time) -> int:
    """Of a message's stamp."""
    return stamp.sec * NS_PER_S + stamp.nanosec
