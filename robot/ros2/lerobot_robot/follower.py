"""Follows joint positions through the bridge of one robot, as whoever teleoperates it.

    <bridge>/jog      goes out all the time: velocities towards the positions that were asked for last, 0 where nobody asks
    <bridge>/teleop   is asked for command, until the bridge says that it is so
    joint states, cameras, <bridge>/command_sent, <bridge>/status   come in

It neither arms the robot nor holds its dead-man switch nor is its e-stop source: an operator does that at `vla-rl console`.

J joints, units of the profile
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping

import numpy as np
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.task import Future
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import SetBool

from policies.interface import UserError
from robot.profile import RobotProfile
from robot.ros2.feed import Feed
from robot.ros2.operators import BEAT_QOS
from robot.ros2.reports import STATUS_QOS
from robot.ros2.streams import endpoint_name

NAME = "lerobot"
"""Of the node."""
JOG_HZ = 50.0
QUIET_S = 0.25
"""Without a new request before the robot is brought to rest."""
APPROACH_S = 0.1
"""Time constant of the approach. The way of a velocity to the bridge, and of its command back, takes up to 0.04 s: with a constant of
one period the robot would swing around where it should be."""
ASK_S = 1.0
"""Between requests to command."""
SILENT_S = 2.0
"""Without a status of the bridge, which comes at 5 Hz, before it counts as gone."""


def velocity_toward(target: np.ndarray, commanded: np.ndarray, limit: np.ndarray, acceleration: np.ndarray) -> np.ndarray:
    """Velocities `(J,)` [unit/s] from the commanded positions `(J,)` to the target `(J,)` [unit].

        v = sign(e) · min(|e| / APPROACH_S, √(a |e|), limit)      e the way that is left

    where √(a |e|) is how fast half of the acceleration `a` `(J,)` [unit/s²] still brakes in time, so that joints which speed up slowly do
    not overshoot. `limit` `(J,)` [unit/s].
    """
    left = target - commanded
    return np.sign(left) * np.minimum(np.minimum(np.abs(left) / APPROACH_S, np.sqrt(acceleration * np.abs(left))), limit)


class Follower:
    """One robot on the graph. `ask` and what is read come from LeRobot's thread, everything else happens in the comms thread."""

    def __init__(self, node: Node, profile: RobotProfile, sizes: Mapping[str, tuple[int, int]]) -> None:
        """Join the graph.

        Args:
            node: spun by the owner.
            profile: the robot.
            sizes: height and width [px] by camera of the profile.

        Raises:
            AdapterError: the robot is not read over ROS 2, or it lacks a camera.
        """
        self.images: dict[str, np.ndarray] = {}
        """Newest image by camera, `(H, W, 3)` uint8, RGB."""
        self.measured: np.ndarray | None = None
        """Newest measured positions `(J,)`."""
        self.state, self._commander = "", ""
        self._node, self._profile, self._sizes = node, profile, sizes
        self._sent: np.ndarray | None = None
        self._topic, self._bridge = profile.topics.joint_states, f"/{profile.name}/bridge"
        self._limit = profile.safety.speed_cap * np.array([joint.velocity for joint in profile.joints])
        self._acceleration = np.array([joint.acceleration for joint in profile.joints])
        self._heard_s: dict[str, float] = {}
        """When there was a sample last, by camera, and as `state` and `status`."""
        self._refusals: dict[str, str] = {}
        self._request: tuple[np.ndarray, float] | None = None
        self._since_s: float | None = None
        """When it began to follow; `None` while it does not."""
        self._asked_s = -np.inf
        self._jogs = node.create_publisher(JointState, f"{self._bridge}/jog", BEAT_QOS)
        self._teleop = node.create_client(SetBool, f"{self._bridge}/teleop")
        node.create_subscription(String, f"{self._bridge}/status", self._status, STATUS_QOS)
        self._feed = Feed(node, profile, self, tuple(sizes))
        node.create_timer(1 / JOG_HZ, self._jog, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def ask(self, target: np.ndarray) -> None:
        """Go to `(J,)`. Holds for `QUIET_S`, and only while the robot is armed and this commands."""
        self._request = target, time.monotonic()
        if not self._commands:
            state = f"the robot is in '{self.state}' and '{self._commander}' commands"
            self._node.get_logger().warning(f"nothing moves: {state}; arm it with `vla-rl console`", throttle_duration_sec=5.0)

    def rest(self) -> None:
        """Ask for nothing any more."""
        self._request = None

    def missing(self) -> str:
        """What of robot and bridge is not there or too old; empty if nothing is."""
        ages, name = self._profile.ages, self._profile.name
        if self.bridge_is_gone:
            return f"no bridge of {name} is heard on this ROS domain: start it with `python -m robot.ros2 PROFILE --activate --teleop`"
        if (age_s := self._age_s("state")) > ages.state_s:
            return f"joint states of {name} on {self._topic} {_late(age_s, ages.state_s)}"
        for camera in self._sizes:
            if (age_s := self._age_s(camera)) > ages.image_s:
                why = self._refusals.get(camera, "")
                return f"images of camera '{camera}' on {self._profile.topics.images[camera]} {why or _late(age_s, ages.image_s)}"
        return ""

    def others(self) -> list[str]:
        """Nodes besides this one that teleoperate the robot."""
        nodes = [endpoint_name(info) for info in self._node.get_publishers_info_by_topic(f"{self._bridge}/jog")]
        if (own := self._node.get_fully_qualified_name()) in nodes:
            nodes.remove(own)
        return nodes

    def felt(self, stamp_ns: int, position: np.ndarray) -> None:
        """As `robot.ros2.feed.Sink`."""
        del stamp_ns
        self.measured, self._heard_s["state"] = position, time.monotonic()

    def saw(self, camera: str, stamp_ns: int, image: np.ndarray) -> None:
        """As `robot.ros2.feed.Sink`."""
        del stamp_ns
        if image.shape[:2] != self._sizes[camera]:
            (height, width), (wanted_height, wanted_width) = image.shape[:2], self._sizes[camera]
            self._refusals[camera] = f"are {height} px high and {width} wide, {wanted_height} and {wanted_width} were asked for"
            raise UserError(f"images {self._refusals[camera]}")
        self.images[camera], self._heard_s[camera] = image, time.monotonic()

    def commanded(self, stamp_ns: int, position: np.ndarray) -> None:
        """As `robot.ros2.feed.Sink`."""
        del stamp_ns
        self._sent = position

    @property
    def position(self) -> np.ndarray | None:
        """Positions `(J,)` that the bridge sent to the robot last; the measured ones before it ever sent any."""
        return self.measured if self._sent is None else self._sent

    @property
    def bridge_is_gone(self) -> bool:
        """Whether there was no status of it for a while."""
        return self._age_s("status") > SILENT_S

    @property
    def _commands(self) -> bool:
        return self.state == "active" and self._commander == "teleop" and not self.bridge_is_gone

    def _jog(self) -> None:
        now_s = time.monotonic()
        self._jogs.publish(JointState(name=list(self._profile.names), velocity=self._velocity(now_s).tolist()))
        if self._commander not in ("", "teleop") and now_s - self._asked_s > ASK_S and self._teleop.service_is_ready():
            self._asked_s = now_s
            self._teleop.call_async(SetBool.Request(data=True)).add_done_callback(self._answered)

    def _velocity(self, now_s: float) -> np.ndarray:
        """`(J,)` [unit/s]. Full speed comes within the profile's ramp, as the robot may stand far from what is asked for."""
        request, position = self._request, self.position
        if request is None or position is None or now_s - request[1] > QUIET_S or not self._commands:
            self._since_s = None
            return np.zeros(len(self._limit))
        self._since_s = now_s if self._since_s is None else self._since_s
        share = min(1.0, (now_s - self._since_s) / max(self._profile.safety.ramp_s, 1 / JOG_HZ))
        return velocity_toward(request[0], position, share * self._limit, self._acceleration)

    def _answered(self, answer: Future) -> None:
        found = answer.result()
        if found is not None and not found.success:
            self._node.get_logger().warning(f"not in command: {found.message}", throttle_duration_sec=5.0)

    def _status(self, message: String) -> None:
        values = json.loads(message.data)
        self.state, self._commander = values["state"], values["commander"]
        self._heard_s["status"] = time.monotonic()

    def _age_s(self, what: str) -> float:
        return time.monotonic() - self._heard_s.get(what, -np.inf)


def _late(age_s: float, limit_s: float) -> str:
    return f"are {age_s:.2f} s old, at most {limit_s:g} s are allowed" if np.isfinite(age_s) else "do not come"
