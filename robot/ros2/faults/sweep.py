"""`python -m robot.ros2.faults.sweep PROFILE CENTRE`: a commander that sweeps one joint, and misbehaves as it is told.

A process of its own, as policies are; its chunks are samples of one curve in time, so that chunks agree where they overlap.

    /<robot>/sweep/fault   std_msgs/String   one of `CHUNK_FAULTS`

K steps · J commanded coordinates
"""

from __future__ import annotations

import signal
import sys
import threading
import traceback
from collections import deque
from pathlib import Path

import numpy as np
import rclpy
from rclpy.node import Node
from std_msgs.msg import Header, String
from trajectory_msgs.msg import JointTrajectory

from robot.profile import RobotProfile, load_profile
from robot.ros2.chunks import NS_PER_S, to_message
from robot.ros2.comms import CommsThread, make_executor
from robot.ros2.graph import join
from robot.ros2.operators import BEAT_QOS, CHUNK_QOS
from robot.ros2.reports import STATUS_QOS

JOINT = 0
AMPLITUDE, PERIOD_S = 0.5, 6.0
"""In the joint's unit, about the centre."""
STEPS, STEP_S = 32, 0.05
EVERY_S = 0.2
"""Between chunks."""
DELAY_S = 0.05
"""From the observation to the chunk."""
BEAT_HZ = 20.0
HUGE = 1.0
"""How far the joint is told to jump; `limit` tells it to go ten times as far."""
LATE = 2
"""By how many chunks `late` is later than usual: 0.4 s."""
DOWN = 1
"""Joint whose increase brings the tool down into the table, in `table`."""

CHUNK_FAULTS = (
    "none", "silent", "pause", "loss", "burst", "late", "duplicate", "reorder", "flood", "stale", "future", "zero_stamp", "uneven",
    "nan", "inf", "short", "wrong_length", "missing_joint", "unknown_joint", "other_order", "huge_step", "alternating", "limit", "table",
)  # fmt: skip
PAUSE = {"pause": 4, "burst": 3}
"""Chunks that are not sent, once."""


def swept(profile: RobotProfile, centre: np.ndarray, times_s: np.ndarray) -> np.ndarray:
    """`(K, J)` positions of the sweep."""
    positions = np.repeat(centre[None], len(times_s), 0)
    positions[:, JOINT] += AMPLITUDE * np.sin(2 * np.pi * times_s / PERIOD_S)
    return positions


def bent(fault: str, positions: np.ndarray) -> np.ndarray:
    """`(K, J)` as a fault changes them."""
    changed = positions.copy()
    match fault:
        case "nan" | "inf":
            changed[len(changed) // 2, JOINT] = float(fault)
        case "huge_step":
            changed[:, JOINT] += HUGE
        case "limit":
            changed[:, JOINT] += 10 * HUGE
        case "alternating":
            changed[::2, JOINT] += 0.2
        case "table":
            changed[:, DOWN] += HUGE
    return changed


def garbled(fault: str, message: JointTrajectory) -> JointTrajectory:
    """A message as a fault changes it, in place."""
    names, points = list(message.joint_names), list(message.points)
    match fault:
        case "stale":
            message.header.stamp.sec -= 2
        case "future":
            message.header.stamp.sec += 5
        case "zero_stamp":
            message.header.stamp.sec = message.header.stamp.nanosec = 0
        case "uneven":
            points[-1].time_from_start.sec += 1
        case "short":
            message.points = points[:1]
        case "wrong_length":
            for point in points:
                point.positions = list(point.positions)[:-1]
        case "missing_joint":
            message.joint_names = names[:-1]
            for point in points:
                point.positions = list(point.positions)[:-1]
        case "unknown_joint":
            message.joint_names = [*names[:-1], "elbow"]
        case "other_order":
            message.joint_names = names[::-1]
            for point in points:
                point.positions = list(point.positions)[::-1]
    return message


def sent(fault: str, count: int, message: JointTrajectory, held: deque[JointTrajectory]) -> list[JointTrajectory]:
    """What leaves instead of a message: nothing, it, older ones. `count` is of chunks since the fault began."""
    match fault:
        case "silent":
            return []
        case "pause" | "burst":
            return [] if count < PAUSE[fault] else [message]
        case "loss":
            return [] if count % 5 == 2 else [message]
        case "duplicate":
            return [message, message]
        case "late":
            held.append(message)
            return [held.popleft()] if len(held) > LATE else []
        case "reorder":
            held.append(message)
            return [held.pop(), held.popleft()] if len(held) == 2 else []
    return [message]


class Sweep:
    """The commander on its node."""

    def __init__(self, node: Node, profile: RobotProfile, centre: np.ndarray) -> None:
        self._node, self._profile, self._centre = node, profile, centre
        self._fault, self._count = "none", 0
        self._held: deque[JointTrajectory] = deque()
        self._chunks = node.create_publisher(JointTrajectory, f"/{profile.name}/bridge/action_chunk", CHUNK_QOS)
        self._beats = node.create_publisher(Header, f"/{profile.name}/bridge/heartbeat", BEAT_QOS)
        node.create_subscription(String, "~/fault", self._begin, STATUS_QOS)
        node.create_timer(1 / BEAT_HZ, lambda: self._beats.publish(Header(frame_id="sweep")))
        node.create_timer(EVERY_S / 10, self._tick)
        self._ticks = 0

    def _begin(self, message: String) -> None:
        self._fault, self._count = message.data, 0
        self._held.clear()

    def _tick(self) -> None:
        self._ticks += 1
        if self._fault != "flood" and self._ticks % 10:
            return
        t0_ns = self._node.get_clock().now().nanoseconds - round(DELAY_S * NS_PER_S)
        times_s = (t0_ns % round(PERIOD_S * NS_PER_S)) / NS_PER_S + STEP_S * np.arange(STEPS)
        positions = bent(self._fault, swept(self._profile, self._centre, times_s))
        message = garbled(self._fault, to_message(t0_ns, STEP_S, positions, self._profile.names, "sweep"))
        for each in sent(self._fault, self._count, message, self._held):
            self._chunks.publish(each)
        self._count += 1


def main(profile: Path, centre: str) -> int:
    """Sweep until SIGINT or SIGTERM. `centre` is positions, separated by commas. Exit status 1 if a callback failed."""
    stop, failures = threading.Event(), list[Exception]()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    robot = load_profile(profile)
    join()
    node = rclpy.create_node("sweep", namespace=robot.name)

    def failed(error: Exception) -> None:
        failures.append(error)
        stop.set()

    comms = CommsThread(node, make_executor(node.context), failed)
    Sweep(node, robot, np.array([float(value) for value in centre.split(",")]))
    comms.start()
    stop.wait()
    comms.stop()
    node.destroy_node()
    rclpy.shutdown()
    for error in failures:
        traceback.print_exception(error)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
