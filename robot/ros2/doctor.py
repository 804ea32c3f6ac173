"""Looks at a robot from outside: who publishes what, at which rate, how old it is on arrival, and who listens to commands."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import rclpy
import tyro
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image

from policies.interface import UserError
from robot.profile import RobotProfile, load_profile
from robot.ros2.graph import join, shares_memory
from robot.ros2.latency import LatencyHistogram
from robot.ros2.streams import Listener, Stream, endpoint_name, publisher_problems, subscriber_problems
from robot.ros2.wiring import command_qos, command_wiring, image_streams, state_reader, state_stream

DISCOVERY_S = 5.0
"""How long to wait for the graph before saying that somebody is missing."""
SLOW = 0.8
"""A stream below this share of its rate is a problem."""
BUFFERS = "; large images are lost where `sysctl net.core.rmem_default` and `rmem_max` are not some megabytes"
"""What to look at where images are missing."""
SHARED = (
    "Fast DDS shares memory here: a bridge may stand still together with another process of its host that hangs. On a robot leave"
    " ROS_AUTOMATIC_DISCOVERY_RANGE at SUBNET and FASTDDS_BUILTIN_TRANSPORTS unset"
)
"""Said where `join` could not keep this process out of it."""
OLD_S = 1.0
"""A median age beyond this means clocks that differ."""


@dataclass(frozen=True)
class CommandTopic:
    """Where a controller is told what to do."""

    topic: str
    message_type: type
    qos: QoSProfile


@dataclass(frozen=True)
class Report:
    """What was found."""

    lines: tuple[str, ...]
    problems: tuple[str, ...]
    histograms: tuple[LatencyHistogram, ...]
    """Of the streams whose ages make sense."""


def examine(streams: Sequence[Stream], commands: Sequence[CommandTopic], listen_s: float, domain_id: int | None = None) -> Report:
    """Listen to a robot for a while. Sends nothing but its own presence."""
    context = Context()
    join(context, domain_id)
    node = rclpy.create_node("doctor", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        listeners = [Listener(stream) for stream in streams]
        for listener in listeners:
            node.create_subscription(listener.stream.message_type, listener.stream.topic, listener.receive, listener.stream.qos)
        _discover(node, executor, streams, commands)
        for listener in listeners:
            listener.arrivals_s.clear()
            listener.ages_s.clear()
        _spin(executor, listen_s)
        return _report(node, listeners, commands)
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown(context=context)


def write_histograms(report: Report, folder: Path) -> list[Path]:
    """One JSON file per stream, `latency_<stream>.json`, for the randomisation of training."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for histogram in report.histograms:
        paths.append(folder / f"latency_{histogram.stream}.json")
        histogram.save(paths[-1])
    return paths


def _spin(executor: SingleThreadedExecutor, duration_s: float) -> None:
    until = time.monotonic() + duration_s
    while (left := until - time.monotonic()) > 0:
        executor.spin_once(timeout_sec=left)


def _discover(node: Node, executor: SingleThreadedExecutor, streams: Sequence[Stream], commands: Sequence[CommandTopic]) -> None:
    """Wait until every topic has the endpoint we look for, or the time is over."""
    until = time.monotonic() + DISCOVERY_S
    while time.monotonic() < until:
        found = all(node.count_publishers(stream.topic) for stream in streams)
        if found and all(node.count_subscribers(command.topic) for command in commands):
            return
        _spin(executor, 0.1)


def _report(node: Node, listeners: Sequence[Listener], commands: Sequence[CommandTopic]) -> Report:
    lines, problems, histograms = [], [], []
    for listener in listeners:
        lines.append(_describe(listener))
        faults = publisher_problems(node, listener.stream)
        problems += faults or _stream_problems(listener)
        if listener.ages_s and min(listener.ages_s) >= 0 and np.median(listener.ages_s) < OLD_S:
            histograms.append(LatencyHistogram.of(listener.stream.name, listener.ages_s))
    for command in commands:
        problems += subscriber_problems(node, command.topic, command.message_type, command.qos)
        senders = [endpoint_name(info) for info in node.get_publishers_info_by_topic(command.topic)]
        lines.append(f"{command.topic:40} commanded by {', '.join(senders) or 'nobody'}")
    if shares_memory():
        lines.append(SHARED)
    return Report(tuple(lines), tuple(problems), tuple(histograms))


def _describe(listener: Listener) -> str:
    stream = listener.stream
    if not listener.arrivals_s:
        return f"{stream.topic:40} silent"
    text = f"{stream.topic:40} {listener.rate_hz:7.1f} Hz of {stream.expected_hz:g}, longest gap {1e3 * listener.longest_gap_s:.0f} ms"
    if listener.ages_s:
        p50, p90, p99 = 1e3 * np.quantile(listener.ages_s, [0.5, 0.9, 0.99])
        text += f", age p50 {p50:.1f} p90 {p90:.1f} p99 {p99:.1f} ms"
    return text


def _stream_problems(listener: Listener) -> list[str]:
    stream = listener.stream
    if not listener.arrivals_s:
        return [f"{stream.topic}: it has a publisher, but nothing arrived"]
    problems = []
    if listener.rate_hz < SLOW * stream.expected_hz:
        lost = BUFFERS if stream.message_type is Image else ""
        problems.append(f"{stream.topic}: {listener.rate_hz:.1f} Hz, the profile says {stream.expected_hz:g}{lost}")
    if listener.ages_s and min(listener.ages_s) < 0:
        problems.append(f"{stream.topic}: samples arrive {-min(listener.ages_s):.3f} s before their own stamp: the clocks differ")
    elif listener.ages_s and np.median(listener.ages_s) > OLD_S:
        problems.append(
            f"{stream.topic}: samples are {np.median(listener.ages_s):.1f} s old on arrival: the clocks differ, or stamps are missing"
        )
    return problems


def examine_robot(profile: RobotProfile, cameras: tuple[str, ...], listen_s: float, domain_id: int | None = None) -> Report:
    """Examine what a profile says is there. Raises `AdapterError` where it is not a robot on ROS 2."""
    qos, reader = command_qos(profile, lockstep=False), state_reader(profile)
    commands = [CommandTopic(each.adapter.topic, each.adapter.message_type, qos) for each in command_wiring(profile, reader)]
    return examine([state_stream(profile, reader), *image_streams(profile, cameras)], commands, listen_s, domain_id)


def doctor(
    profile: Annotated[Path, tyro.conf.Positional], cameras: tuple[str, ...] = (), listen_s: float = 5.0, measure: Path | None = None
) -> int:
    """Look at a robot from outside; sends no commands. Exit status 1 if something is wrong.

    Args:
        profile: the robot's profile, such as configs/robots/arm7.yaml.
        cameras: cameras to listen to; all of the profile if none are named.
        listen_s: how long to listen [s].
        measure: folder for latency histograms, one JSON file per stream.
    """
    robot = load_profile(profile)
    report = examine_robot(robot, cameras or tuple(robot.topics.images), listen_s)
    print("\n".join(report.lines))
    print("\n".join(f"problem: {problem}" for problem in report.problems) or "no problems found")
    for path in write_histograms(report, measure) if measure else []:
        print(f"latency histogram {path}")
    return 1 if report.problems else 0


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m robot.ros2.doctor PROFILE [--measure DIR]`."""
    try:
        return tyro.cli(doctor, args=argv, prog="vla-rl doctor")
    except UserError as error:
        print(f"doctor: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
