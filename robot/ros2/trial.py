"""Episodes of a deployed policy on the simulated robot, one after another."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rclpy.node import Node
from std_msgs.msg import String

from robot.profile import RobotProfile, load_profile
from robot.ros2.reports import STATUS_QOS
from robot.ros2.sim_operator import LATCHED, Operator, on_this_host


class Trial:
    """Puts the robot to the start of an episode, arms, and watches."""

    def __init__(self, node: Node, profile: RobotProfile, alive: Callable[[], str]) -> None:
        """`node` is spun by another thread; `alive` says which process ended, if one has."""
        self._operator = Operator(node, profile.name, alive)
        self._node, self._heartbeat, self._ramp_s = node, f"/{profile.name}/bridge/heartbeat", profile.safety.ramp_s
        self._instruct = node.create_publisher(String, f"/{profile.name}/policy/instruction", STATUS_QOS)
        self._begins_at: int | None = None
        self._horizon = 0
        self.solved = False
        node.create_subscription(String, f"{self._operator.arm}/episode", self._judge, 50)

    def begin(self) -> None:
        """Wait for everything to be on the graph."""
        operator = self._operator
        operator.until(lambda: operator.state in ("standby", *LATCHED) and bool(operator.episode), "robot and bridge are there")
        operator.until(lambda: self._node.count_publishers(self._heartbeat) > 0, "the policy is loaded")

    def start(self, task: str, seed: int, horizon: int, step_s: float) -> None:
        """Put the robot to the start of an episode of `horizon` control steps, and arm. They count from the end of the ramp on."""
        operator = self._operator
        self._tell_stop()
        operator.rest()
        self._instruct.publish(String(data=operator.place(task, seed)))
        operator.hold()
        self.solved, self._begins_at, self._horizon = False, None, horizon
        operator.armed()
        self._begins_at = operator.episode["steps"] + round(self._ramp_s / step_s)

    def finish(self) -> int:
        """Watch an armed robot until the task is solved, its time is up or it was stopped; disarm. Returns the control steps taken."""
        operator = self._operator
        operator.until(lambda: self.solved or self._taken >= self._horizon or operator.state in LATCHED, "the episode ends")
        taken = self._taken
        operator.call(f"{operator.bridge}/disarm")
        self._tell_stop()
        operator.unlatch()
        return max(1, min(taken, self._horizon))

    @property
    def _taken(self) -> int:
        return self._operator.episode["steps"] - self._begins_at if self._begins_at is not None else 0

    def _tell_stop(self) -> None:
        operator = self._operator
        if operator.state in LATCHED:
            print(f"seed {operator.episode['seed']}: {operator.state}, {operator.status['cause']}", flush=True)

    def _judge(self, message: String) -> None:
        found = json.loads(message.data)
        if self._begins_at is not None and 0 < found["steps"] - self._begins_at <= self._horizon:
            self.solved = self.solved or bool(found["success_now"])


@contextmanager
def operating(profile: Path, alive: Callable[[], str]) -> Iterator[Trial]:
    """The trial of a robot, spun by a thread."""
    failures: list[Exception] = []

    def ended() -> str:
        return alive() or (f"a callback failed: {failures[0]!r}" if failures else "")

    with on_this_host("trials", lambda node: Trial(node, load_profile(profile), ended), failures) as trial:
        yield trial
