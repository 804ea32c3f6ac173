"""Episodes of a deployed policy on the simulated robot: the operator of all of them, and who puts the robot to its start."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.srv import SetParameters
from rclpy.client import Client
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Joy
from std_msgs.msg import Bool, String
from std_srvs.srv import Trigger

from policies.interface import UserError
from robot.profile import load_profile
from robot.ros2.comms import CommsThread, make_executor
from robot.ros2.operators import BEAT_QOS, ESTOP_QOS
from robot.ros2.reports import STATUS_QOS

BEAT_HZ = 20.0
POLL_S = 0.02
LATCHED = ("fault", "estop")
WAIT_S = 120.0
"""How long anything on the graph may take before it counts as failed."""
SETTLE_S = 0.1
"""After a reset, until joint states of the new start have come in."""


class TrialError(UserError):
    """The robot, the bridge or the policy is not there, or does not go on."""


class Trial:
    """The operator of all episodes, and who puts the robot to its start."""

    def __init__(self, node: Node, robot: str, alive: Callable[[], str]) -> None:
        """`node` is spun by another thread; `alive` says which process ended, if one has."""
        bridge, arm = f"/{robot}/bridge", f"/{robot}/sim_robot"
        self._node, self._alive = node, alive
        self._estop = node.create_publisher(Bool, f"{bridge}/estop", ESTOP_QOS)
        self._deadman = node.create_publisher(Joy, f"{bridge}/deadman", BEAT_QOS)
        self._instruct = node.create_publisher(String, f"/{robot}/policy/instruction", STATUS_QOS)
        self._change = node.create_client(ChangeState, f"{bridge}/change_state")
        self._set = node.create_client(SetParameters, f"{arm}/set_parameters")
        self._services = {
            name: node.create_client(Trigger, name)
            for name in (f"{bridge}/arm", f"{bridge}/disarm", f"{bridge}/reset_fault", f"{arm}/reset")
        }
        self._bridge, self._arm = bridge, arm
        self.episode: dict[str, Any] = {}
        self.status: dict[str, Any] = {"state": "", "cause": ""}
        self._armed_at: int | None = None
        self._horizon = 0
        self.solved = False
        node.create_subscription(String, f"{arm}/episode", self._report, 50)
        node.create_subscription(String, f"{bridge}/status", self._see, STATUS_QOS)
        node.create_timer(1 / BEAT_HZ, self._beat)

    def begin(self) -> None:
        """Wait for everything to be on the graph."""
        self._until(lambda: self.status["state"] in ("standby", *LATCHED) and bool(self.episode), "robot and bridge are there")
        self._until(lambda: self._node.count_publishers(f"{self._bridge}/heartbeat") > 0, "the policy is loaded")

    def start(self, task: str, seed: int, horizon: int) -> None:
        """Put the robot to the start of an episode of `horizon` control steps, and arm."""
        self._recover()
        self._until(lambda: self.status["state"] in ("standby", "inactive"), "the bridge stands by")
        self._lifecycle(Transition.TRANSITION_DEACTIVATE)
        self._place(task, seed)
        time.sleep(SETTLE_S)
        self._lifecycle(Transition.TRANSITION_ACTIVATE)
        self._until(lambda: self.status["state"] == "standby", "the bridge holds")
        self.solved, self._armed_at, self._horizon = False, None, horizon
        self._until(lambda: self._call(f"{self._bridge}/arm").success, "the bridge arms")
        self._armed_at = self.episode["steps"]

    def finish(self) -> int:
        """Watch an armed robot until the task is solved, its time is up or it was stopped; disarm. Returns the control steps taken."""
        self._until(lambda: self.solved or self._taken >= self._horizon or self.status["state"] in LATCHED, "the episode ends")
        taken = self._taken
        self._call(f"{self._bridge}/disarm")
        self._recover()
        return max(1, min(taken, self._horizon))

    def _recover(self) -> None:
        """Reset a latched stop until the bridge says that nothing is latched, and say what it was."""

        def unlatched() -> bool:
            if self.status["state"] in LATCHED:
                self._call(f"{self._bridge}/reset_fault")
            return self.status["state"] not in LATCHED

        if self.status["state"] in LATCHED:
            print(f"seed {self.episode['seed']}: {self.status['state']}, {self.status['cause']}", flush=True)
            self._until(unlatched, "the bridge is reset")

    @property
    def _taken(self) -> int:
        return self.episode["steps"] - self._armed_at if self._armed_at is not None else 0

    def _place(self, task: str, seed: int) -> None:
        wanted = [Parameter(name, value=value).to_parameter_msg() for name, value in (("task", task), ("seed", seed))]
        answers = self._ask(self._set, SetParameters.Request(parameters=wanted), "the robot's parameters").results
        if not all(answer.successful for answer in answers):
            raise TrialError("; ".join(answer.reason for answer in answers))
        found = self._call(f"{self._arm}/reset")
        if not found.success:
            raise TrialError(found.message)
        self._instruct.publish(String(data=found.message))
        self._until(lambda: self.episode.get("seed") == seed, "the robot is at its start")

    def _lifecycle(self, transition: int) -> None:
        request = ChangeState.Request()
        request.transition.id = transition
        self._until(lambda: self._ask(self._change, request, "the bridge's lifecycle").success, f"transition {transition} of the bridge")

    def _call(self, name: str) -> Trigger.Response:
        return self._ask(self._services[name], Trigger.Request(), name)

    def _ask(self, client: Client, request: Any, what: str) -> Any:
        self._until(client.service_is_ready, f"{what} is there")
        future = client.call_async(request)
        self._until(future.done, f"{what} answers")
        return future.result()

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        end_s = time.monotonic() + WAIT_S
        while not condition():
            if ended := self._alive():
                raise TrialError(ended)
            if time.monotonic() > end_s:
                raise TrialError(
                    f"waited {WAIT_S:g} s in vain until {what}; the bridge is in '{self.status['state']}' {self.status['cause']}"
                )
            time.sleep(POLL_S)

    def _report(self, message: String) -> None:
        self.episode = json.loads(message.data)
        if 0 < self._taken <= self._horizon:
            self.solved = self.solved or bool(self.episode["success_now"])

    def _see(self, message: String) -> None:
        self.status = json.loads(message.data)

    def _beat(self) -> None:
        self._estop.publish(Bool(data=False))
        self._deadman.publish(Joy(buttons=[1]))


@contextmanager
def operating(profile: Path, alive: Callable[[], str]) -> Iterator[Trial]:
    """The trial of a robot, spun by a thread."""
    failures: list[Exception] = []
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("trials")
    comms = CommsThread(node, make_executor(node.context), failures.append)
    trial = Trial(node, load_profile(profile).name, lambda: alive() or (f"a callback failed: {failures[0]!r}" if failures else ""))
    comms.start()
    try:
        yield trial
    finally:
        comms.stop()
        node.destroy_node()
        rclpy.shutdown()
