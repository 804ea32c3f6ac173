"""Messages from plain numbers, as robots publish them."""

from __future__ import annotations

import array

import numpy as np
from builtin_interfaces.msg import Time
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image

from robot.observation import NS_PER_S

JOINT_STATES_QOS = QoSProfile(depth=10)
"""Reliable, volatile: what the joint_state_broadcaster of ros2_control publishes with."""


def to_time(now_ns: int) -> Time:
    """A message's stamp."""
    return Time(sec=now_ns // NS_PER_S, nanosec=now_ns % NS_PER_S)


def to_image(pixels: np.ndarray, frame: str, now_ns: int) -> Image:
    """An rgb8 message of `(H, W, 3)` uint8."""
    height, width = pixels.shape[:2]
    message = Image(height=height, width=width, encoding="rgb8", step=3 * width)
    message.data = array.array("B", pixels.tobytes())
    message.header.stamp, message.header.frame_id = to_time(now_ns), frame
    return message
