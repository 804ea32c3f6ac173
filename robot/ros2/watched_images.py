"""The cameras that a policy depends on, as the bridge sees them: how old the newest image is, and whether contents change.

The pixels themselves go to the policy, in a process of its own.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import Image

from robot.profile import RobotProfile
from robot.ros2.wiring import image_streams


@dataclass(frozen=True)
class ImageSample:
    """What is kept of an image."""

    stamp_s: float
    """Of its header."""
    received_s: float
    """By the monotonic clock."""
    digest: np.ndarray
    """`(1,)` uint32 of size and bytes."""


class WatchedImages:
    """Newest image by camera. Callbacks run in the comms thread, `newest` is read by the control thread."""

    def __init__(self, node: Node, profile: RobotProfile, cameras: Sequence[str]) -> None:
        """Subscribe. Raises `AdapterError` for a camera that the profile lacks."""
        self.newest: dict[str, ImageSample] = {}
        self.cameras = tuple(cameras)
        for stream in image_streams(profile, self.cameras):
            node.create_subscription(Image, stream.topic, partial(self._receive, stream.name), stream.qos)

    def ages_s(self, now_s: float, lockstep: bool) -> dict[str, float]:
        """Of every camera's newest image; infinite before there is one. In lockstep by the simulator's clock."""
        ages = dict.fromkeys(self.cameras, float("inf"))
        for camera, sample in self.newest.items():
            ages[camera] = max(now_s - (sample.stamp_s if lockstep else sample.received_s), 0.0)
        return ages

    def _receive(self, camera: str, message: Image) -> None:
        stamp_s = message.header.stamp.sec + message.header.stamp.nanosec / 1e9
        digest = zlib.crc32(memoryview(message.data), zlib.crc32(f"{message.width} {message.height} {message.encoding}".encode()))
        self.newest[camera] = ImageSample(stamp_s, time.monotonic(), np.array([digest], np.uint32))
