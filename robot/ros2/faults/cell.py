"""A simulated robot, its bridge and a commander as processes, an operator, and a record of what they do.

J commanded coordinates. Times are this process's monotonic seconds.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, String

from robot.profile import RobotProfile, load_profile
from robot.ros2.operator import LATCHED, Operator, spinning
from robot.ros2.reports import EVENT_QOS, STATUS_QOS

TASK, SEED = "reach", 0
"""The episode whose start every fault begins at."""
END_S = 20.0
"""How long a process may take to end when asked to."""
MOVING = 0.3
"""Commanded speed of the swept joint that counts as moving [unit/s]; its largest is 0.52."""


class Child:
    """A process of this interpreter, whose output goes to a file."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self._command, self._log = list(command), log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, unless it runs."""
        if not self.alive:
            with self._log.open("a") as log:
                self._process = subprocess.Popen(
                    [sys.executable, *self._command],
                    stdout=log, stderr=subprocess.STDOUT, start_new_session=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
                )  # fmt: skip

    @property
    def alive(self) -> bool:
        """Whether it runs; stopped by a signal counts as running."""
        return self._process is not None and self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it runs."""
        if self._process is not None and self.alive:
            self._process.send_signal(number)

    def wait(self) -> None:
        """Return when it has ended."""
        if self._process is not None:
            self._process.wait(END_S)

    def stop(self) -> None:
        """End it as Ctrl-C would, by force if it does not."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            self.wait()
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
            self.wait()


@dataclass(frozen=True)
class Moment:
    """Positions and velocities `(J,)` that were commanded or measured, when they were heard of."""

    at_s: float
    position: np.ndarray
    velocity: np.ndarray


@dataclass(frozen=True)
class Heard:
    """Something that the bridge said."""

    at_s: float
    code: str
    text: str


class Cell:
    """What faults are injected into. Lists are written by the thread that spins the node."""

    def __init__(self, node: Node, profile: RobotProfile, children: dict[str, Child], failures: Sequence[Exception]) -> None:
        self.profile, self.children = profile, children
        self.operator = Operator(node, profile.name, lambda: f"a callback failed: {failures[0]!r}" if failures else "")
        self.sent, self.truth, self.heard = list[Moment](), list[Moment](), list[Heard]()
        self._rival: Node | None = None
        self._fault = node.create_publisher(String, f"/{profile.name}/sweep/fault", STATUS_QOS)
        bridge, arm = self.operator.bridge, self.operator.arm
        node.create_subscription(JointState, f"{bridge}/command_sent", lambda message: self.sent.append(self._moment(message)), EVENT_QOS)
        node.create_subscription(JointState, f"{arm}/truth", lambda message: self.truth.append(self._moment(message)), QoSProfile(depth=50))
        node.create_subscription(DiagnosticArray, f"{bridge}/safety_event", self._hear, EVENT_QOS)

    def recover(self) -> None:
        """Whatever happened: no fault is on, every process runs, and the bridge holds the robot at the start of the episode."""
        operator = self.operator
        self.withdraw()
        self.chunks("none")
        operator.pressed, operator.held, operator.estop_speaks, operator.deadman_speaks = False, True, True, True
        for child in self.children.values():
            child.signal(signal.SIGCONT)
        if not self.children["robot"].alive:
            operator.episode = {}
            self.children["robot"].start()
            operator.until(lambda: bool(operator.episode), "the robot is there")
        if not self.children["bridge"].alive:
            operator.status = {"state": "", "cause": ""}
            self.children["bridge"].start()
            operator.until(lambda: operator.state in ("standby", *LATCHED), "the bridge has begun")
        self.children["sweep"].start()
        operator.set_robot({"fault.state": "none", "fault.camera": "none", "fault.command": "none"})
        operator.rest()
        operator.place(TASK, SEED)
        operator.hold()
        for record in (self.sent, self.truth, self.heard):
            record.clear()

    def move(self) -> None:
        """Arm, and wait until the robot moves."""
        self.operator.armed()
        self.operator.until(lambda: bool(self.sent) and abs(self.sent[-1].velocity[0]) > MOVING, "the robot moves")

    def chunks(self, fault: str) -> None:
        """A fault of the commander."""
        self._fault.publish(String(data=fault))

    def rival(self) -> None:
        """Another node publishes on a command topic of the robot, until `withdraw`."""
        context = Context()
        rclpy.init(context=context)
        node = rclpy.create_node("rival", context=context)
        node.create_publisher(Float64MultiArray, self.profile.controllers[-1].topic, 1)
        self._rival = node

    def withdraw(self) -> None:
        """End `rival`."""
        if self._rival is not None:
            self._rival.destroy_node()
            rclpy.shutdown(context=self._rival.context)
            self._rival = None

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        time.sleep(seconds)

    def _moment(self, message: JointState) -> Moment:
        return Moment(time.monotonic(), np.array(message.position), np.array(message.velocity))

    def _hear(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.heard.append(Heard(time.monotonic(), status.name.rpartition(": ")[2], status.message))


@contextmanager
def faulty_cell(path: Path, logs: Path) -> Iterator[Cell]:
    """Start everything for a profile, and end it. Logs of the processes go to a folder."""
    profile, failures = load_profile(path), list[Exception]()
    cameras = tuple(profile.topics.images)[:1]
    watched = ["--cameras", *cameras] if cameras else []
    centre = ",".join(str(joint.home) for joint in profile.joints)
    logs.mkdir(parents=True, exist_ok=True)
    commands = {
        "robot": ["-m", "sim.ros2", str(path), "--task", TASK, "--seed", str(SEED)],
        "bridge": ["-m", "robot.ros2", str(path), "--activate", *watched],
        "sweep": ["-m", "robot.ros2.faults.sweep", str(path), centre],
    }
    children = {name: Child(command, logs / f"{name}.log") for name, command in commands.items()}
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: nothing is left running
    try:
        with spinning("faults", lambda node: Cell(node, profile, children, failures), failures) as cell:
            yield cell
    finally:
        for child in reversed(children.values()):
            child.stop()
        signal.signal(signal.SIGTERM, before)
