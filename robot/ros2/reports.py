"""What the bridge tells the world: commands that really left, safety events, status.

~/command_sent   sensor_msgs/JointState           every command, as the controllers got it
~/safety_event   diagnostic_msgs/DiagnosticArray  every event, when it happens
~/chunk          std_msgs/String                  JSON, for every chunk that is followed: time and age of its observation
~/status         std_msgs/String                  JSON, latched
/diagnostics     diagnostic_msgs/DiagnosticArray  the same, once a second

J commanded coordinates
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.time import Time
from sensor_msgs.msg import JointState
from std_msgs.msg import String

EVENT_QOS = QoSProfile(depth=50)
STATUS_QOS = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)

Values = Mapping[str, str | int | float | bool]


class Reports:
    """Publishers of the bridge besides the robot's commands."""

    def __init__(self, node: Node, joints: Sequence[str]) -> None:
        self._node, self._joints = node, list(joints)
        self._sent = node.create_publisher(JointState, "~/command_sent", EVENT_QOS)
        self._events = node.create_publisher(DiagnosticArray, "~/safety_event", EVENT_QOS)
        self._chunks = node.create_publisher(String, "~/chunk", EVENT_QOS)
        self._status = node.create_publisher(String, "~/status", STATUS_QOS)
        self._diagnostics = node.create_publisher(DiagnosticArray, "/diagnostics", EVENT_QOS)

    def command_sent(self, stamp: Time, position: np.ndarray, velocity: np.ndarray) -> None:
        """Positions and velocities `(J,)` that left at a time."""
        message = JointState(name=self._joints, position=position, velocity=velocity)
        message.header.stamp = stamp.to_msg()
        self._sent.publish(message)

    def safety_event(self, code: str, text: str, values: Values) -> None:
        """Something was refused, limited, or ended motion."""
        self._events.publish(self._array(DiagnosticStatus.WARN, code, text, values))

    def chunk(self, t0_ns: int, age_s: float) -> None:
        """A chunk is followed from now on; its observation was taken at a time, by the ROS clock."""
        self._chunks.publish(String(data=json.dumps({"t0_ns": t0_ns, "age_s": round(age_s, 6)})))

    def status(self, values: Values) -> None:
        """How the bridge stands."""
        self._status.publish(String(data=json.dumps(dict(values))))

    def diagnostics(self, healthy: bool, text: str, values: Values) -> None:
        """For tools that aggregate."""
        level = DiagnosticStatus.OK if healthy else DiagnosticStatus.ERROR
        self._diagnostics.publish(self._array(level, "bridge", text, values))

    def _array(self, level: bytes, name: str, text: str, values: Values) -> DiagnosticArray:
        pairs = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
        full = f"{self._node.get_fully_qualified_name()}: {name}"
        message = DiagnosticArray(status=[DiagnosticStatus(level=level, name=full, message=text, hardware_id=full, values=pairs)])
        message.header.stamp = self._node.get_clock().now().to_msg()
        return message
