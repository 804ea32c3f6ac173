"""A simulated robot, its bridge and a commander as processes, an operator, and a record of what they do.

J commanded coordinates. Times are this process's monotonic seconds.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, String

from robot.processes import Child, children
from robot.profile import RobotProfile, load_profile
from robot.ros2.faults.sweep import JOINT
from robot.ros2.graph import join
from robot.ros2.reports import EVENT_QOS, STATUS_QOS
from robot.ros2.sim_operator import LATCHED, Operator, OperatorError, on_this_host

TASK, SEED = "reach", 0
"""The episode whose start every fault begins at."""
MOVING = 0.3
"""Commanded speed of the swept joint that counts as moving [unit/s]; its largest is 0.52."""


JOG = -0.4
"""Speed at which the operator moves the swept joint [unit/s]."""


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
        """`failures` are what callbacks of the node raised. Raises `OperatorError` for a robot that is not commanded over ROS 2."""
        if (commands := profile.controllers[-1].topic) is None:
            raise OperatorError(f"{profile.name} is not commanded over ROS 2: its profile has no topics of commands")
        self._commands = commands
        self.profile, self.children = profile, children
        self.operator = Operator(node, profile.name, lambda: f"a callback failed: {failures[0]!r}" if failures else "")
        self.sent, self.truth, self.heard = list[Moment](), list[Moment](), list[Heard]()
        self._rival: Node | None = None
        self._fault = node.create_publisher(String, f"/{profile.name}/sweep/fault", STATUS_QOS)
        bridge, arm = self.operator.bridge, self.operator.arm
        node.create_subscription(JointState, f"{bridge}/command_sent", partial(self._note, self.sent), EVENT_QOS)
        node.create_subscription(JointState, f"{arm}/truth", partial(self._note, self.truth), QoSProfile(depth=50))
        node.create_subscription(DiagnosticArray, f"{bridge}/safety_event", self._hear, EVENT_QOS)

    def recover(self) -> None:
        """Whatever happened: no fault is on, every process runs, and the bridge holds the robot at the start of the episode."""
        operator = self.operator
        self.withdraw()
        self.chunks("none")
        operator.pressed, operator.held, operator.estop_speaks, operator.deadman_speaks, operator.jog = False, True, True, True, None
        for child in self.children.values():
            child.signal(signal.SIGCONT)
        if not self.children["robot"].alive:
            operator.episode = {}
            self._start("robot", lambda: bool(operator.episode))
        if not self.children["bridge"].alive:
            operator.status = {"state": "", "cause": ""}
            self._start("bridge", lambda: operator.state in ("standby", *LATCHED))
        self.children["sweep"].start()
        operator.set_robot({"fault.state": "none", "fault.camera": "none", "fault.command": "none"})
        operator.rest()
        operator.hand_over(teleop=False)
        operator.place(TASK, SEED)
        operator.hold()
        for record in (self.sent, self.truth, self.heard):
            record.clear()

    def end(self) -> None:
        """End every process; `recover` starts them again."""
        for child in reversed(self.children.values()):
            child.stop()

    def move(self) -> None:
        """Arm, and wait until the robot moves; again, where a busy host has ended it before the fault."""

        def moving() -> bool:
            if self.operator.state not in ("arming", "active"):
                self.operator.armed()
            return bool(self.sent) and abs(self.sent[-1].velocity[JOINT]) > MOVING

        self.operator.until(moving, "the robot moves")

    def teleoperate(self) -> None:
        """The operator takes over from the policy that moves the robot, and moves it too."""
        self.operator.jog = {self.profile.names[JOINT]: JOG}
        self.operator.hand_over(teleop=True)
        self.operator.until(lambda: np.isclose(self.sent[-1].velocity[JOINT], JOG, atol=0.01), "the operator moves the robot")

    def chunks(self, fault: str) -> None:
        """A fault of the commander."""
        self._fault.publish(String(data=fault))

    def rival(self) -> None:
        """Another node publishes on a command topic of the robot, until `withdraw`."""
        context = Context()
        join(context)
        node = rclpy.create_node("rival", context=context)
        node.create_publisher(Float64MultiArray, self._commands, 1)
        self._rival = node

    def withdraw(self) -> None:
        """End `rival`."""
        if self._rival is not None:
            self._rival.destroy_node()
            rclpy.shutdown(context=self._rival.context)
            self._rival = None

    def _start(self, name: str, there: Callable[[], bool]) -> None:
        """Start a process and wait until it is there. Raises `OperatorError` with its last words if it ends instead."""
        child = self.children[name]
        child.start()
        self.operator.until(lambda: there() or not child.alive, f"the {name} is there")
        if not child.alive:
            raise OperatorError(f"the {name} ended: {child.last_words}")

    def _note(self, moments: list[Moment], message: JointState) -> None:
        moments.append(Moment(time.monotonic(), np.array(message.position), np.array(message.velocity)))

    def _hear(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.heard.append(Heard(time.monotonic(), status.name.rpartition(": ")[2], status.message))


@contextmanager
def faulty_cell(path: Path, logs: Path) -> Iterator[Cell]:
    """Everything for a profile, which starts with the first `recover`, and ends. Logs of the processes go to a folder.

    Raises:
        OperatorError: a robot of that name is on the graph already: it might be a real one.
    """
    profile, failures = load_profile(path), list[Exception]()
    cameras = tuple(profile.topics.images)[:1]
    watched = ["--cameras", *cameras] if cameras else []
    centre = ",".join(str(joint.home) for joint in profile.joints)
    commands = {
        "robot": ["-m", "sim.ros2", str(path), "--task", TASK, "--seed", str(SEED)],
        "bridge": ["-m", "robot.ros2", str(path), "--activate", *watched],
        "sweep": ["-m", "robot.ros2.faults.sweep", str(path), centre],
    }
    with (
        children(commands, logs) as processes,
        on_this_host("faults", lambda node: Cell(node, profile, processes, failures), failures) as cell,
    ):
        cell.operator.require_alone()
        yield cell
