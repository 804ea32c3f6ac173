"""A robot on LeRobot's motor bus as a participant of ROS 2: joint states and images out, positions in.

It is what a vendor's controller is for other robots, and like one it takes no command on trust: one that is broken, leads out of the
joints' limits, far from where they are, or there faster than they may go, is refused whole. Where commands stop, motors hold the last one.

J commanded coordinates of the profile
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

import numpy as np
from rclpy.node import Node
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64MultiArray

from robot.lerobot_hardware import Hardware, HardwareError, Measured
from robot.observation import NS_PER_S
from robot.profile import Controller, RobotProfile
from robot.ros2.messages import JOINT_STATES_QOS, to_image, to_time
from robot.ros2.wiring import LIFESPAN_PERIODS

LOST_S = 2.0
"""Without a step in which everything worked before the driver gives up."""
EARLY_PERIODS = 4
"""How many periods' way a command may lead at once: commands come irregularly. On average none leads faster than the joint may go."""
CLOCKS = 1.05
"""How much faster the sender's clock may run."""
FLICKER = 0.005
"""How far a command may lie beyond a limit, or a measurement beyond it, as a share of the joint's range: encoders flicker."""
WINDOW = 4
"""Measurements that velocities are taken over: the difference of two would be mostly the encoder's steps."""


@dataclass(frozen=True)
class Command:
    """Positions that somebody asked for, of one controller's joints."""

    index: np.ndarray
    """`(C,)` of the joints in the profile's order."""
    position: np.ndarray
    """As it was sent; its length is not checked yet."""
    heard_s: float
    """`time.monotonic`."""


class Gate:
    """Which commands are obeyed. The filter before it keeps its commands well within what is allowed here."""

    def __init__(self, profile: RobotProfile) -> None:
        self._profile = profile
        self._velocity = CLOCKS * np.array([joint.velocity for joint in profile.joints])
        self._most = EARLY_PERIODS * profile.period_s * self._velocity
        self._quiet_s = profile.safety.watchdog_misses * profile.period_s
        self._goal: np.ndarray | None = None
        self._allowed = self._most.copy()
        """`(J,)` how far the next command may lead from the goal."""
        self._passed_s = -np.inf

    def quiet(self, now_s: float) -> bool:
        """Whether commands have ended."""
        return now_s - self._passed_s > self._quiet_s

    def judge(self, command: Command, measured: np.ndarray, now_s: float) -> tuple[np.ndarray | None, str]:
        """The new goal `(J,)`, or `None` and why not.

        Args:
            command: of one controller.
            measured: `(J,)` positions.
            now_s: `time.monotonic`.
        """
        if len(command.position) != len(command.index):
            return None, f"it has {len(command.position)} positions, the controller has {len(command.index)} joints"
        fresh = self._goal is None or self.quiet(now_s)
        goal = measured.copy() if fresh or self._goal is None else self._goal.copy()
        allowed = self._most if fresh else np.minimum(self._most, self._allowed + (now_s - self._passed_s) * self._velocity)
        step = np.zeros(len(measured))
        for position, joint in zip(command.position, command.index, strict=True):
            if why := self._refusal(int(joint), float(position), float(measured[joint]), fresh):
                return None, why
            step[joint] = abs(position - goal[joint])
        if not fresh and np.any(step > allowed):
            joint = int(np.argmax(step - allowed))
            limits = self._profile.joints[joint]
            return None, f"{limits.name} should go by {step[joint]:.3f} {limits.unit} at once, {allowed[joint]:.3f} are left to it"
        goal[command.index] = command.position
        self._goal, self._allowed, self._passed_s = goal, allowed if fresh else allowed - step, now_s
        return goal, ""

    def _refusal(self, joint: int, position: float, now: float, fresh: bool) -> str:
        """A joint that starts outside of its limits may only go inward, and none goes further than the leash from where it is."""
        limits = self._profile.joints[joint]
        slack = FLICKER * (limits.position[1] - limits.position[0])
        low, high = min(limits.position[0], now - slack), max(limits.position[1], now + slack)
        reach = limits.leash + (0.0 if fresh else limits.velocity * self._profile.ages.state_s)
        if not np.isfinite(position):
            return f"{limits.name} is {position}"
        if not low <= position <= high:
            return f"{limits.name} should go to {position:.3f} {limits.unit}, outside of {low:.3f} to {high:.3f}"
        if abs(position - now) > reach:
            return f"{limits.name} should go from {now:.3f} to {position:.3f} {limits.unit}, further than {reach:.3f}"
        return ""


class LeRobotDriver:
    """One robot on the graph. Subscriptions only note what they hear; `step`, in one thread, is all that calls LeRobot."""

    def __init__(self, node: Node, hardware: Hardware, profile: RobotProfile) -> None:
        """Join the graph with a robot that is connected."""
        self._node, self._hardware, self._profile = node, hardware, profile
        self._gate = Gate(profile)
        self._past: deque[Measured] = deque(maxlen=WINDOW)
        self._heard: dict[str, Command] = {}
        """The newest command by topic, until it is obeyed or refused."""
        self._commanded, self._well_s = False, time.monotonic()
        self._states = node.create_publisher(JointState, profile.topics.joint_states, JOINT_STATES_QOS)
        self._images = {
            camera: node.create_publisher(Image, profile.topics.images[camera], qos_profile_sensor_data) for camera in hardware.cameras
        }
        for controller in profile.controllers:
            self._listen(controller)

    def step(self) -> None:
        """Obey the newest commands, measure, publish. Raises `HardwareError` once the robot has not answered for `LOST_S`."""
        problems = []
        for part in (self._obey, self._measure):
            try:
                part()
            except HardwareError as error:
                problems.append(str(error))
        now_s = time.monotonic()
        if not problems:
            self._well_s = now_s
        elif now_s - self._well_s > LOST_S:
            raise HardwareError(f"given up after {LOST_S:g} s: {problems[-1]}")
        else:
            self._node.get_logger().warning(problems[-1], throttle_duration_sec=1.0)
        self._show()

    def _obey(self) -> None:
        now_s = time.monotonic()
        for topic in tuple(self._heard):
            command = self._heard.pop(topic)
            goal, why = self._judge(topic, command, now_s)
            if goal is None:
                self._node.get_logger().error(f"a command on {topic} is refused: {why}", throttle_duration_sec=1.0)
                continue
            self._commanded = True
            self._hardware.write(goal)
        if self._commanded and self._gate.quiet(now_s):
            self._commanded = False
            self._node.get_logger().warning("no commands any more; the motors hold the last one")

    def _judge(self, topic: str, command: Command, now_s: float) -> tuple[np.ndarray | None, str]:
        if not self._past or time.perf_counter() - self._past[-1].read_s > self._profile.ages.state_s:
            return None, "the joints were not measured lately"
        if now_s - command.heard_s > LIFESPAN_PERIODS * self._profile.period_s:
            return None, f"it waited for {now_s - command.heard_s:.2f} s"
        if (senders := self._node.count_publishers(topic)) > 1:
            return None, f"{senders} nodes command this robot"
        return self._gate.judge(command, self._past[-1].position, now_s)

    def _measure(self) -> None:
        self._past.append(self._hardware.read())
        first, last = self._past[0], self._past[-1]
        velocity = (last.position - first.position) / max(last.read_s - first.read_s, 1e-3)
        message = JointState(name=list(self._profile.names), position=last.position, velocity=velocity)
        message.header.stamp = to_time(self._clock_ns(last.read_s))
        self._states.publish(message)

    def _show(self) -> None:
        for camera, (pixels, taken_s) in self._hardware.images().items():
            self._images[camera].publish(to_image(pixels, camera, self._clock_ns(taken_s)))
        for camera, why in self._hardware.camera_problems.items():
            self._node.get_logger().warning(f"no image of {camera}: {why}", throttle_duration_sec=1.0)

    def _clock_ns(self, at_s: float) -> int:
        """By the ROS clock, of a time of `time.perf_counter`."""
        return self._node.get_clock().now().nanoseconds - round((time.perf_counter() - at_s) * NS_PER_S)

    def _listen(self, controller: Controller) -> None:
        index = np.array([self._profile.names.index(name) for name in controller.joints])

        def hear(message: Float64MultiArray) -> None:
            self._heard[controller.topic] = Command(index, np.array(message.data, np.float64), time.monotonic())

        self._node.create_subscription(Float64MultiArray, controller.topic, hear, QoSProfile(depth=1))
