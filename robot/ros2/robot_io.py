"""The robot on the graph: latest joint sample in, limited commands out.

Callbacks run in the comms thread, `latest` and `send` in the control thread. What passes between them is one reference to an
immutable sample, which Python exchanges atomically.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.node import Node

from robot.profile import RobotProfile
from robot.ros2.joint_states import JointSample, JointStates
from robot.ros2.stamps import Stamps
from robot.ros2.streams import endpoint_name, publisher_problems, subscriber_problems
from robot.ros2.wiring import command_qos, command_wiring, state_reader, state_stream

RATE_SAMPLES = 51
"""That the rate is measured over."""


class RosRobot:
    """What a profile says is on the graph."""

    def __init__(self, node: Node, profile: RobotProfile, lockstep: bool) -> None:
        """Subscribe to joint states and create the command publishers; nothing is sent yet.

        Args:
            node: spun by the owner.
            profile: the robot's.
            lockstep: whether commands wait for a simulator, so that they must not expire.

        Raises:
            AdapterError: the robot is not commanded over ROS 2, or message types of its vendor are not installed.
        """
        self._node, self._profile = node, profile
        self._states = JointStates(profile.names)
        self._latest: JointSample | None = None
        self._arrived = threading.Condition()
        self._arrivals_ns: deque[int] = deque(maxlen=RATE_SAMPLES)
        self.qos_problem = ""
        """What the middleware said about incompatible quality of service; empty if nothing."""
        self._reader = state_reader(profile)
        self._stream, self._wiring = state_stream(profile, self._reader), command_wiring(profile, self._reader)
        self._qos = command_qos(profile, lockstep)
        node.create_subscription(
            self._stream.message_type,
            self._stream.topic,
            self._receive,
            self._stream.qos,
            event_callbacks=SubscriptionEventCallbacks(incompatible_qos=self._incompatible(self._stream.topic)),
        )
        self._publishers = [
            node.create_publisher(
                each.adapter.message_type,
                each.adapter.topic,
                self._qos,
                event_callbacks=PublisherEventCallbacks(incompatible_qos=self._incompatible(each.adapter.topic)),
            )
            for each in self._wiring
        ]

    @property
    def latest(self) -> JointSample | None:
        """The newest complete sample; `None` until every joint was heard."""
        return self._latest

    @property
    def missing(self) -> tuple[str, ...]:
        """Joints that no message has named so far."""
        return self._states.missing

    @property
    def state_hz(self) -> float:
        """Rate of the last samples, 0 before there are two."""
        arrivals = list(self._arrivals_ns)
        return (len(arrivals) - 1) / (arrivals[-1] - arrivals[0]) * 1e9 if len(arrivals) > 1 else 0.0

    @property
    def broken_messages(self) -> tuple[int, str]:
        """How many joint state messages could not be used, and why the last one could not."""
        return self._states.broken, self._states.last_problem

    @property
    def clock_offset_s(self) -> float:
        """Running median of arrival minus header stamp of joint states [s]."""
        return self._states.offset.offset_s

    def wait(self, after_header_ns: int, timeout_s: float) -> JointSample | None:
        """The newest sample once its header stamp is later than `after_header_ns`; `None` when the time is over."""

        def fresh() -> bool:
            return self._latest is not None and self._latest.stamps.header_ns > after_header_ns

        with self._arrived:
            return self._latest if self._arrived.wait_for(fresh, timeout_s) else None

    def send(self, position: np.ndarray, velocity: np.ndarray, damped: bool = False) -> None:
        """Tell every controller where its joints should be.

        Args:
            position: `(J,)` in the profile's order and units.
            velocity: `(J,)` per second.
            damped: the profile's damping gains instead of stiffness.
        """
        for wiring, publisher in zip(self._wiring, self._publishers, strict=True):
            publisher.publish(wiring.adapter.encode(position[wiring.index], velocity[wiring.index], damped))

    def conflicts(self) -> tuple[str, ...]:
        """Command topics that somebody else publishes on as well, with their names."""
        own = self._node.get_fully_qualified_name()
        found = []
        for wiring in self._wiring:
            infos = self._node.get_publishers_info_by_topic(wiring.adapter.topic)
            others = [endpoint_name(info) for info in infos if endpoint_name(info) != own]
            if others or len(infos) > 1:
                found.append(f"{wiring.adapter.topic} is also commanded by {', '.join(others) or 'another bridge of the same name'}")
        return tuple(found)

    def problems(self) -> tuple[str, ...]:
        """Why this robot cannot be run now, by the graph: who is missing, of another type, or incompatible."""
        found = publisher_problems(self._node, self._stream)
        for wiring in self._wiring:
            found += subscriber_problems(self._node, wiring.adapter.topic, wiring.adapter.message_type, self._qos)
        return tuple([*found, *filter(None, [self.qos_problem])])

    def _receive(self, state: Any) -> None:
        """Never raises: whatever a message says ends in a sample, or in a count of broken ones."""
        arrived = self._node.get_clock().now()
        message = self._reader.decode(state, arrived.to_msg())
        header_ns = message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec
        sample = self._states.receive(message, Stamps(header_ns, arrived.nanoseconds, time.monotonic_ns()))
        if sample is not None:
            self._arrivals_ns.append(sample.stamps.monotonic_ns)
            with self._arrived:
                self._latest = sample
                self._arrived.notify_all()

    def _incompatible(self, topic: str) -> Callable[[object], None]:
        def note(event: object) -> None:
            self.qos_problem = f"{topic}: the middleware found incompatible quality of service ({event})"

        return note
