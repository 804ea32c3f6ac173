"""An operator in software, for a simulated robot: e-stop source, dead-man switch, services, and who puts the robot to its start.

Never for a real robot: there a person holds the switch.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lifecycle_msgs.msg import State as LifecycleState
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import SetParameters
from rclpy.client import Client
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState, Joy
from std_msgs.msg import Bool, String
from std_srvs.srv import SetBool, Trigger

from policies.interface import UserError
from robot.ros2.comms import spinning
from robot.ros2.operators import BEAT_QOS, ESTOP_QOS
from robot.ros2.realtime import HARDWARE
from robot.ros2.reports import STATUS_QOS

BEAT_HZ = 20.0
POLL_S = 0.02
LATCHED = ("fault", "estop")
WAIT_S = 120.0
"""How long anything on the graph may take before it counts as failed."""
AGAIN_S = 0.2
"""Between requests to arm."""
DISCOVERY_S = 2.0
"""How long others are looked for on the graph."""
SETTLE_S = 0.1
"""After a reset, until joint states of the new start have come in."""


class OperatorError(UserError):
    """The robot or the bridge is not there, or does not go on."""


class Operator:
    """Operates the bridge of one simulated robot. The node is spun by another thread."""

    def __init__(self, node: Node, robot: str, alive: Callable[[], str]) -> None:
        """`alive` says which process ended, empty if none has."""
        self.node, self._alive = node, alive
        self._namespace = f"/{robot}"
        self.bridge, self.arm = f"/{robot}/bridge", f"/{robot}/sim_robot"
        self.pressed, self.held = False, True
        """E-stop and dead-man switch."""
        self.estop_speaks = self.deadman_speaks = True
        """Whether their senders live."""
        self.jog: dict[str, float] | None = None
        """Velocities of joints that he asks for when he teleoperates [unit/s]; silent if `None`."""
        self.episode: dict[str, Any] = {}
        """What the robot says of its task."""
        self.status: dict[str, Any] = {"state": "", "cause": ""}
        """What the bridge says of itself."""
        self._estop = node.create_publisher(Bool, f"{self.bridge}/estop", ESTOP_QOS)
        self._deadman = node.create_publisher(Joy, f"{self.bridge}/deadman", BEAT_QOS)
        self._jog = node.create_publisher(JointState, f"{self.bridge}/jog", BEAT_QOS)
        self._teleop = node.create_client(SetBool, f"{self.bridge}/teleop")
        self._change = node.create_client(ChangeState, f"{self.bridge}/change_state")
        self._node_state = node.create_client(GetState, f"{self.bridge}/get_state")
        self._set = node.create_client(SetParameters, f"{self.arm}/set_parameters")
        self._services = {
            name: node.create_client(Trigger, name)
            for name in (*(f"{self.bridge}/{name}" for name in ("arm", "disarm", "reset_fault")), f"{self.arm}/reset", f"{self.arm}/clear")
        }
        node.create_subscription(String, f"{self.arm}/episode", self._report, 50)
        node.create_subscription(String, f"{self.bridge}/status", self._see, STATUS_QOS)
        node.create_timer(1 / BEAT_HZ, self.beat)

    @property
    def state(self) -> str:
        """Of the bridge."""
        return self.status["state"]

    def require_alone(self) -> None:
        """Raise `OperatorError` if a robot or bridge of that name is on the graph already: it might be a real one."""
        time.sleep(DISCOVERY_S)
        for node, namespace in self.node.get_node_names_and_namespaces():
            if namespace == self._namespace:
                raise OperatorError(
                    f"{namespace}/{node} is on the graph already, and this is only for robots that it starts; choose another ROS_DOMAIN_ID"
                )

    def beat(self) -> None:
        """Say how e-stop and dead-man switch stand, and which way to go; also done regularly."""
        if self.estop_speaks:
            self._estop.publish(Bool(data=self.pressed))
        if self.deadman_speaks:
            self._deadman.publish(Joy(buttons=[int(self.held)]))
        if self.jog is not None:
            self._jog.publish(JointState(name=list(self.jog), velocity=list(self.jog.values())))

    def hand_over(self, teleop: bool) -> None:
        """He commands from now on, or the policy."""
        self._ask(self._teleop, SetBool.Request(data=teleop), "the bridge's hand-over")

    def call(self, name: str) -> Trigger.Response:
        """Ask a service by its full name."""
        return self._ask(self._services[name], Trigger.Request(), name)

    def set_robot(self, values: dict[str, str | int]) -> None:
        """Set parameters of the simulated robot. Raises `OperatorError` if it refuses."""
        wanted = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
        answers = self._ask(self._set, SetParameters.Request(parameters=wanted), "the robot's parameters").results
        if not all(answer.successful for answer in answers):
            raise OperatorError("; ".join(answer.reason for answer in answers))

    def rest(self) -> None:
        """Whatever happened before: nothing is latched, and the bridge sends nothing."""
        self.unlatch()
        if self._active():  # the node may be active though the runtime is not: after a reset
            self._lifecycle(Transition.TRANSITION_DEACTIVATE)
        self.until(lambda: self._unlatched() and self.state == "inactive", "the bridge is inactive")

    def place(self, task: str, seed: int) -> str:
        """Put a robot that nobody commands to the start of an episode. Returns the instruction."""
        self.set_robot({"task": task, "seed": seed})
        found = self.call(f"{self.arm}/reset")
        if not found.success:
            raise OperatorError(found.message)
        self.until(lambda: (self.episode.get("task"), self.episode.get("seed")) == (task, seed), "the robot is at its start")
        return found.message

    def hold(self) -> None:
        """The bridge holds the robot where it is, unless something latches at once, which `armed` resets."""
        time.sleep(SETTLE_S)
        self._lifecycle(Transition.TRANSITION_ACTIVATE)
        self.until(lambda: self.state in ("standby", *LATCHED), "the bridge holds")

    def unlatch(self) -> None:
        """Reset a latched stop until the bridge says that nothing is latched."""
        self.until(self._unlatched, "the bridge is reset")

    def armed(self) -> None:
        """Arm as soon as the bridge allows it. What latches meanwhile, as on a busy host a late tick does, is printed and reset."""

        def armed() -> bool:
            if self.state in LATCHED:
                print(f"{self.state} while arming, {self.status['cause']}", flush=True)
                self.rest()
                self.hold()
            return self.call(f"{self.bridge}/arm").success

        self.until(armed, "the bridge arms", poll_s=AGAIN_S)

    def until(self, condition: Callable[[], bool], what: str, limit_s: float = WAIT_S, poll_s: float = POLL_S) -> None:
        """Wait. Raises `OperatorError` in vain or when a process ends."""
        end_s = time.monotonic() + limit_s
        while not condition():
            if ended := self._alive():
                raise OperatorError(ended)
            if time.monotonic() > end_s:
                raise OperatorError(f"waited {limit_s:g} s in vain until {what}; the bridge is in '{self.state}' {self.status['cause']}")
            time.sleep(poll_s)

    def _unlatched(self) -> bool:
        if self.state in LATCHED:
            self.call(f"{self.bridge}/reset_fault")
        return self.state not in LATCHED

    def _active(self) -> bool:
        found = self._ask(self._node_state, GetState.Request(), "the bridge's lifecycle")
        return found.current_state.id == LifecycleState.PRIMARY_STATE_ACTIVE

    def _lifecycle(self, transition: int) -> None:
        request = ChangeState.Request()
        request.transition.id = transition
        self.until(lambda: self._ask(self._change, request, "the bridge's lifecycle").success, f"transition {transition} of the bridge")

    def _ask(self, client: Client, request: Any, what: str) -> Any:
        self.until(client.service_is_ready, f"{what} is there")
        future = client.call_async(request)
        self.until(future.done, f"{what} answers")
        return future.result()

    def _report(self, message: String) -> None:
        self.episode = json.loads(message.data)

    def _see(self, message: String) -> None:
        self.status = json.loads(message.data)


@contextmanager
def on_this_host[Built](name: str, build: Callable[[Node], Built], failures: list[Exception]) -> Iterator[Built]:
    """As `comms.spinning`, with what callbacks raise in `failures`.

    From here on this process and those that it starts look for others on this host alone.
    """
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    with spinning(name, build, failures.append, priority=HARDWARE) as built:
        yield built
