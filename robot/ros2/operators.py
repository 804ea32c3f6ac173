"""What people and commanders say to the bridge: e-stop, dead-man switch, heartbeats, chunks, jogging.

    ~/estop         std_msgs/Bool             true stops; whoever sends it repeats it, as silence counts as lost. Of several senders one
                                              that says true is enough
    ~/deadman       sensor_msgs/Joy           the switch is held while any button is pressed; of several senders each can let go
    ~/heartbeat     std_msgs/Header           frame_id names the commander
    ~/action_chunk  trajectory_msgs/JointTrajectory, see `robot.ros2.chunks`
    ~/jog           sensor_msgs/JointState    velocities of named joints, the others' are 0; whoever teleoperates repeats it

Leases are ages by the monotonic clock, not deadlines of the middleware: those would silence every sender that offers none.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import JointState, Joy
from std_msgs.msg import Bool, Header
from trajectory_msgs.msg import JointTrajectory

from robot.profile import RobotProfile
from robot.ros2.chunks import ChunkError, ChunkSample, to_chunk
from robot.runtime import Operators

BEAT_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
ESTOP_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.VOLATILE)
"""Volatile on this side hears volatile and transient-local senders alike."""
CHUNK_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)

NEVER = -1


class OperatorInputs:
    """Subscriptions of the bridge besides the robot's own. Callbacks never raise."""

    def __init__(
        self,
        node: Node,
        profile: RobotProfile,
        on_chunk: Callable[[ChunkSample], None],
        on_refusal: Callable[[str, str], None],
        on_heartbeat: Callable[[], None],
        on_jog: Callable[[np.ndarray], None],
    ) -> None:
        """Subscribe.

        Args:
            node: spun by the owner.
            profile: the robot's; its timeouts hold.
            on_chunk: called with every valid chunk, in the comms thread.
            on_refusal: called with `chunk` or `jog`, and why it is none for this robot, in the comms thread.
            on_heartbeat: called with every sign of life of a commander, in the comms thread.
            on_jog: called with velocities `(J,)` [unit/s] of whoever teleoperates, in the comms thread.
        """
        self.refused_chunks = 0
        self.last_refusal = ""
        self._node, self._profile = node, profile
        self._on_chunk, self._on_refusal, self._on_heartbeat, self._on_jog = on_chunk, on_refusal, on_heartbeat, on_jog
        self._estop_pressed = False
        self._estop_ns = self._pressed_ns = self._held_ns = NEVER
        node.create_subscription(Bool, "~/estop", self._estop, ESTOP_QOS)
        node.create_subscription(Joy, "~/deadman", self._deadman, BEAT_QOS)
        node.create_subscription(Header, "~/heartbeat", self._heartbeat, BEAT_QOS)
        node.create_subscription(JointTrajectory, "~/action_chunk", self._chunk, CHUNK_QOS)
        node.create_subscription(JointState, "~/jog", self._jog, BEAT_QOS)

    def now(self) -> Operators:
        """By the monotonic clock."""
        now_ns, safety = time.monotonic_ns(), self._profile.safety
        live = _within(self._estop_ns, now_ns, safety.heartbeat_timeout_s)
        return Operators(
            estop_pressed=self._estop_pressed or _within(self._pressed_ns, now_ns, safety.heartbeat_timeout_s),
            estop_live=live,
            estop_lost=self._estop_ns != NEVER and not live,
            deadman_held=_within(self._held_ns, now_ns, safety.deadman_timeout_s),
        )

    def _estop(self, message: Bool) -> None:
        self._estop_pressed, self._estop_ns = bool(message.data), time.monotonic_ns()
        if message.data:
            self._pressed_ns = self._estop_ns

    def _deadman(self, message: Joy) -> None:
        self._held_ns = time.monotonic_ns() if any(message.buttons) else NEVER

    def _heartbeat(self, message: Header) -> None:
        del message
        self._on_heartbeat()

    def _chunk(self, message: JointTrajectory) -> None:
        try:
            chunk = to_chunk(message, self._profile.names)
        except ChunkError as error:
            self.refused_chunks, self.last_refusal = self.refused_chunks + 1, str(error)
            self._refuse("chunk", str(error))
            return
        self._on_chunk(chunk)

    def _jog(self, message: JointState) -> None:
        names, columns = list(message.name), self._profile.names
        if len(message.velocity) != len(names) or not set(names) <= set(columns) or len(set(names)) < len(names):
            self._refuse("jog", f"{len(message.velocity)} velocities for joints {names}; the robot commands {list(columns)}")
            return
        velocity = np.zeros(len(columns))
        velocity[[columns.index(name) for name in names]] = message.velocity
        if not np.isfinite(velocity).all():
            self._refuse("jog", f"velocities are {velocity.tolist()}")
            return
        self._on_jog(velocity)

    def _refuse(self, kind: str, reason: str) -> None:
        self._node.get_logger().warning(f"{kind} refused: {reason}", throttle_duration_sec=1.0)
        self._on_refusal(kind, reason)


def _within(last_ns: int, now_ns: int, timeout_s: float) -> bool:
    return last_ns != NEVER and now_ns - last_ns <= 1e9 * timeout_s
