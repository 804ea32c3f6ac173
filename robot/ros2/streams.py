"""What a node can tell about one topic by listening to it for a while: rate, gaps, ages, quality of service."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import QoSCompatibility, QoSProfile, qos_check_compatible
from rclpy.topic_endpoint_info import TopicEndpointInfo

INFINITE_NS = 2**63 - 1


class _Header(Protocol):
    stamp: Any


@dataclass(frozen=True)
class Stream:
    """One topic that the robot's profile names."""

    name: str
    topic: str
    message_type: type
    qos: QoSProfile
    expected_hz: float


@dataclass
class Listener:
    """Stamps of one stream's samples. `receive` is a subscription callback and never raises."""

    stream: Stream
    ages_s: list[float] = field(default_factory=list)
    """Receive time minus header stamp, by the wall clock."""
    arrivals_s: list[float] = field(default_factory=list)
    """By the monotonic clock."""

    def receive(self, message: Any) -> None:
        """Note one sample."""
        arrival_s, wall_ns = time.monotonic(), time.time_ns()
        self.arrivals_s.append(arrival_s)
        header = getattr(message, "header", None)
        if header is not None:
            self.ages_s.append((wall_ns - header.stamp.sec * 1_000_000_000 - header.stamp.nanosec) / 1e9)

    @property
    def rate_hz(self) -> float:
        """Samples per second, 0 below two samples."""
        if len(self.arrivals_s) < 2:
            return 0.0
        return (len(self.arrivals_s) - 1) / (self.arrivals_s[-1] - self.arrivals_s[0])

    @property
    def longest_gap_s(self) -> float:
        """Between two samples, 0 below two."""
        return float(np.max(np.diff(self.arrivals_s))) if len(self.arrivals_s) > 1 else 0.0


def endpoint_name(info: TopicEndpointInfo) -> str:
    """Full name of the node behind an endpoint."""
    if info.node_name == "_NODE_NAME_UNKNOWN_":  # endpoints are discovered before the nodes that they belong to
        return "a node whose name is not known yet"
    return f"{info.node_namespace.rstrip('/')}/{info.node_name}"


def publisher_problems(node: Node, stream: Stream) -> list[str]:
    """Why this stream's publishers cannot be heard: none, several, another type, incompatible quality of service."""
    publishers = node.get_publishers_info_by_topic(stream.topic)
    if not publishers:
        return [f"{stream.topic}: nobody publishes it"]
    problems = []
    if len(publishers) > 1:
        problems.append(f"{stream.topic}: {len(publishers)} publishers ({', '.join(map(endpoint_name, publishers))}), one is expected")
    wanted = type_name(stream.message_type)
    for info in publishers:
        if info.topic_type != wanted:
            problems.append(f"{stream.topic}: {endpoint_name(info)} publishes {info.topic_type}, {wanted} is expected")
        if reason := incompatibility(info.qos_profile, stream.qos):
            problems.append(f"{stream.topic}: quality of service of {endpoint_name(info)} is incompatible: {reason}")
    return problems


def subscriber_problems(node: Node, topic: str, message_type: type, qos: QoSProfile) -> list[str]:
    """Why commands on a topic would not reach one controller."""
    subscribers = node.get_subscriptions_info_by_topic(topic)
    wanted = type_name(message_type)
    if not any(info.topic_type == wanted for info in subscribers):
        others = f" as {wanted} (there is {', '.join(info.topic_type for info in subscribers)})" if subscribers else ""
        return [f"{topic}: no controller listens{others}; is it loaded and active?"]
    return [
        f"{topic}: quality of service of {endpoint_name(info)} is incompatible: {reason}"
        for info in subscribers
        if info.topic_type == wanted and (reason := incompatibility(qos, info.qos_profile))
    ]


def incompatibility(publisher: QoSProfile, subscription: QoSProfile) -> str:
    """Why a subscription does not hear a publisher; empty if it does."""
    compatible, reason = qos_check_compatible(_finite(publisher), _finite(subscription))
    return reason if compatible == QoSCompatibility.ERROR else ""


def _finite(qos: QoSProfile) -> QoSProfile:
    """The graph reports durations that were left open as infinite, which the check takes for a demand; 0 is no demand."""
    names = ("history", "depth", "reliability", "durability", "lifespan", "deadline", "liveliness", "liveliness_lease_duration")
    values = {name: getattr(qos, name) for name in names}
    for name in ("lifespan", "deadline", "liveliness_lease_duration"):
        if values[name].nanoseconds >= INFINITE_NS:
            values[name] = Duration()
    return QoSProfile(**values)


def type_name(message_type: type) -> str:
    """`sensor_msgs/msg/JointState` of the class."""
    package = message_type.__module__.split(".")[0]
    return f"{package}/msg/{message_type.__name__}"
