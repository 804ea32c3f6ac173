"""The bridge and the simulated robot as two processes; the test is the operator and the commander."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock, PropertyMock

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs the ros extra: pip install 'vla-rl[ros]'")

import rclpy
from builtin_interfaces.msg import Duration
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import JointState, Joy
from std_msgs.msg import Bool, Float64MultiArray, Header, String
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from robot.profile import load_profile
from robot.ros2.__main__ import activate_once_it_stands
from robot.ros2.bridge import Bridge
from robot.ros2.teleop import Teleop
from robot.teleop.tool import ToolMotion
from tests.robot.relaxed import AGES, RATES, SAFETY
from tests.ros import LATCHED, Graph, Process, unique_domain, write_profile

pytestmark = pytest.mark.ros
JOINTS = (*(f"joint{i}" for i in range(1, 8)), "gripper")


class Cell:
    """A robot, its bridge, an operator and a commander."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.domain = unique_domain()
        self.profile = write_profile(folder, rates=RATES, ages=AGES, safety=SAFETY)
        profile = str(self.profile)
        self.robot = Process(self.domain, ["-m", "sim.ros2", profile, *options], folder / "robot.log")
        self.graph = Graph(self.domain)
        self.states = self.graph.record(JointState, "/arm7/joint_states", qos_profile_sensor_data)
        self.graph.until(self._heard, "the robot is on the graph")
        self.bridge = Process(self.domain, ["-m", "robot.ros2", profile, "--activate", "--cameras", "front"], folder / "bridge.log")
        node = self.graph.node
        self._estop = node.create_publisher(Bool, "/arm7/bridge/estop", 1)
        self._deadman = node.create_publisher(Joy, "/arm7/bridge/deadman", qos_profile_sensor_data)
        self._heartbeat = node.create_publisher(Header, "/arm7/bridge/heartbeat", qos_profile_sensor_data)
        self.chunks = node.create_publisher(JointTrajectory, "/arm7/bridge/action_chunk", 1)
        self.held, self.pressed, self.beating = True, False, True
        node.create_timer(0.05, self._beat)
        self._status = self.graph.record(String, "/arm7/bridge/status", LATCHED)
        self.sent = self.graph.record(JointState, "/arm7/bridge/command_sent")
        self.until_state("standby")

    def _heard(self) -> bool:
        assert self.robot.alive(), self.robot.output()
        return len(self.states) > 10

    def _beat(self) -> None:
        self._estop.publish(Bool(data=self.pressed))
        self._deadman.publish(Joy(buttons=[int(self.held)]))
        if self.beating:
            self._heartbeat.publish(Header(frame_id="policy"))

    @property
    def status(self) -> dict[str, Any]:
        return json.loads(self._status[-1].data) if self._status else {"state": "", "cause": ""}

    def until_state(self, state: str) -> None:
        def there() -> bool:
            assert self.bridge.alive(), self.bridge.output()
            return self.status["state"] == state

        try:
            self.graph.until(there, f"the bridge is in {state}")
        except AssertionError as error:
            raise AssertionError(f"{error}; {self.status}\n{self.bridge.output()}") from None

    def call(self, name: str) -> Trigger.Response:
        return self.graph.trigger(f"/arm7/bridge/{name}")

    def change(self, transition: int) -> None:
        request = ChangeState.Request()
        request.transition.id = transition

        def changed() -> bool:
            return self.graph.call(ChangeState, "/arm7/bridge/change_state", request).success

        self.graph.until(changed, f"transition {transition} is made, which it is not while the robot moves")

    def recover(self) -> None:
        """Whatever happened: an episode at its start, and the bridge in standby."""
        self.held, self.pressed, self.beating = True, False, True
        self.graph.set("/arm7/sim_robot", fault_state="none", fault_command="none", fault_camera="none")
        self.reset_fault()
        self.change(Transition.TRANSITION_DEACTIVATE)
        assert self.graph.trigger("/arm7/sim_robot/reset").success
        self.graph.spin(0.5)
        self.change(Transition.TRANSITION_ACTIVATE)
        self.until_state("standby")
        self.states.clear()
        self.sent.clear()
        self.graph.until(lambda: len(self.states) > 2 and len(self.sent) > 2, "states and commands come in")

    def reset_fault(self) -> None:
        """Reset until the bridge says that nothing is latched."""

        def unlatched() -> bool:
            return self.status["state"] not in ("fault", "estop") or self.call("reset_fault").success

        self.graph.until(unlatched, "the reset is granted")

    def arm(self) -> None:
        """Arm as soon as operators and rates are known to the bridge."""
        answers: list[str] = []

        def armed() -> bool:
            answer = self.call("arm")
            answers.append(answer.message)
            return answer.success

        self.graph.until(armed, "the bridge arms")

    def send(self, start: np.ndarray, goal: np.ndarray, duration_s: float = 1.0) -> None:
        """One chunk from one pose to another and a rest there, from now on."""
        steps = round(duration_s / 0.05)
        message = JointTrajectory(joint_names=list(JOINTS))
        message.header.stamp, message.header.frame_id = self.graph.node.get_clock().now().to_msg(), "policy"
        for k in range(steps + 40):
            s = min(k / steps, 1.0)
            point = JointTrajectoryPoint(positions=(start + (3 * s * s - 2 * s**3) * (goal - start)).tolist())
            point.time_from_start = Duration(sec=k // 20, nanosec=(k % 20) * 50_000_000)
            message.points.append(point)
        self.chunks.publish(message)

    @property
    def position(self) -> np.ndarray:
        return np.array(self.states[-1].position)

    def close(self) -> None:
        for process in (self.bridge, self.robot):
            process.stop()
        self.graph.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cell]:
    cell = Cell(tmp_path_factory.mktemp("cell"))
    yield cell
    assert cell.bridge.stop() == 0, cell.bridge.output()
    assert cell.robot.stop() == 0, cell.robot.output()
    cell.close()


@pytest.fixture
def cell(shared: Cell) -> Cell:
    """The shared cell at the start of an episode, its bridge in standby."""
    shared.recover()
    return shared


def moved(home: np.ndarray, joint: int, by: float) -> np.ndarray:
    goal = home.copy()
    goal[joint] += by
    return goal


def test_arming_is_bumpless_and_a_chunk_is_followed(cell: Cell) -> None:
    home = cell.position
    first = len(cell.states)
    cell.arm()
    cell.graph.until(lambda: len(cell.states) > first + 25, "time passes")
    assert max(np.abs(np.array(state.position) - home).max() for state in cell.states) < 5e-3
    goal = moved(home, 0, 0.3)
    cell.send(home, goal)
    cell.graph.until(lambda: np.abs(cell.position - goal).max() < 0.01, "the pose is reached")
    sent = np.array([message.position for message in cell.sent])
    speed = np.abs(np.diff(sent[:, 0])).max() * 50
    assert 0.2 < speed < 0.5 * 2.175 * 1.2
    cell.until_state("fault")  # the chunk is over, and nobody sends another
    assert "no actions of policy" in cell.status["cause"]


def test_estop_latches_and_freezes(cell: Cell) -> None:
    home = cell.position
    cell.arm()
    cell.send(home, moved(home, 0, 0.6), duration_s=3.0)
    cell.graph.until(lambda: cell.position[0] - home[0] > 0.05, "the arm moves")
    cell.pressed = True
    cell.until_state("estop")
    cell.graph.spin(1.0)
    stopped = cell.position
    cell.graph.spin(1.0)
    assert np.abs(cell.position - stopped).max() < 2e-3 and stopped[0] - home[0] < 0.55
    count = len(cell.sent)
    assert not cell.call("reset_fault").success
    cell.pressed = False
    cell.graph.spin(0.5)
    assert cell.status["state"] == "estop", "released is not reset"
    assert "estop" in cell.call("arm").message
    assert len(cell.sent) == count, "nothing is sent in e-stop"
    cell.reset_fault()
    cell.until_state("inactive")


def test_of_several_estop_sources_one_that_is_pressed_is_enough(cell: Cell) -> None:
    cell.arm()
    other = cell.graph.node.create_publisher(Bool, "/arm7/bridge/estop", 1)
    try:
        cell.graph.until(lambda: other.get_subscription_count() == 1, "the bridge listens")
        other.publish(Bool(data=True))  # once, and the other source goes on saying that it is not pressed
        cell.until_state("estop")
        assert "pressed" in cell.call("reset_fault").message
        cell.reset_fault()  # granted once nobody has said so for a while
    finally:
        cell.graph.node.destroy_publisher(other)


def test_another_operator_joins_takes_over_and_hands_back(cell: Cell) -> None:
    said: list[str] = []
    node = rclpy.create_node("second", context=cell.graph.context)
    cell.graph.executor.add_node(node)
    try:
        home = cell.position
        cell.arm()
        cell.send(home, moved(home, 0, 0.6), duration_s=3.0)
        cell.graph.until(lambda: cell.position[0] - home[0] > 0.05, "the policy moves joint 1")
        operator = Teleop(node, load_profile(cell.profile), ToolMotion(load_profile(cell.profile)), None, said.append, beside=True)
        cell.graph.until(lambda: cell.status["commander"] == "teleop", "he takes over by himself")
        assert cell.status["state"] == "active", "without a stop"
        cell.graph.spin(0.5)
        before = cell.position

        def up() -> bool:
            assert cell.status["state"] == "active", f"{cell.status} {said}\n{cell.bridge.output()}"
            operator.key("u")
            return np.abs(cell.position - before).max() > 0.1

        cell.graph.until(up, "his keys move the arm")
        operator.hand_back()
        cell.graph.until(lambda: cell.status["commander"] == "policy", "the policy commands again")
        operator.key(" ")
        cell.until_state("estop")
        operator.key("e")
        cell.reset_fault()
    finally:
        cell.graph.executor.remove_node(node)
        node.destroy_node()


def test_a_second_commander_faults(cell: Cell) -> None:
    cell.arm()
    other = cell.graph.node.create_publisher(Float64MultiArray, "/arm7/gripper_controller/commands", 1)
    try:
        cell.until_state("fault")
        assert "conflict of command topics" in cell.status["cause"]
        assert cell.status["conflicts"] == "/arm7/gripper_controller/commands is also commanded by /test"
        assert "conflict" in cell.call("reset_fault").message
    finally:
        cell.graph.node.destroy_publisher(other)
    cell.reset_fault()


def test_silent_joint_states_fault(cell: Cell) -> None:
    cell.graph.set("/arm7/sim_robot", fault_state="stop")
    cell.until_state("fault")
    assert "state_age of joint_states" in cell.status["cause"]


def test_a_released_deadman_stops_softly(cell: Cell) -> None:
    home = cell.position
    cell.arm()
    cell.send(home, moved(home, 0, 0.6), duration_s=3.0)
    cell.graph.until(lambda: cell.position[0] - home[0] > 0.05, "the arm moves")
    cell.held = False
    cell.until_state("standby")
    assert "the dead-man switch is not held" in cell.call("arm").message
    assert cell.position[0] - home[0] < 0.55


def test_teleoperation_takes_over_from_a_moving_policy_without_a_bump(cell: Cell) -> None:
    def hand_over(teleop: bool) -> str:
        return cell.graph.call(SetBool, "/arm7/bridge/teleop", SetBool.Request(data=teleop)).message

    jogs = cell.graph.node.create_publisher(JointState, "/arm7/bridge/jog", qos_profile_sensor_data)
    jog = [0.2]
    timer = cell.graph.node.create_timer(0.02, lambda: jogs.publish(JointState(name=["joint2"], velocity=jog)))
    try:
        home = cell.position
        cell.arm()
        cell.send(home, moved(home, 0, 0.6), duration_s=3.0)
        cell.graph.until(lambda: cell.position[0] - home[0] > 0.1, "the policy moves joint 1")
        assert hand_over(True) == "teleop commands"
        cell.graph.until(lambda: cell.position[1] - home[1] > 0.1, "the operator moves joint 2")
        assert cell.status["commander"] == "teleop" and cell.status["state"] == "active"
        assert cell.position[0] - home[0] < 0.5, "the policy's chunk is forgotten"
        sent = np.array([message.position for message in cell.sent])
        assert np.abs(np.diff(sent[:, :7], axis=0)).max() < 0.5 * 2.175 / 50 * 1.5, "no step is a jump"
        jog[0] = float("nan")
        cell.graph.until(lambda: "jog refused" in cell.bridge.output(), "nonsense is refused")
        cell.until_state("standby")  # and counts as silence
        assert "who commands is not heard" in cell.call("arm").message
        jog[0] = 0.0
        assert hand_over(False) == "policy commands"
    finally:
        cell.graph.node.destroy_timer(timer)
        cell.graph.node.destroy_publisher(jogs)
        hand_over(False)


def test_homing(cell: Cell) -> None:
    away, home = cell.position, np.array([0.0, -0.1, 0.0, -2.3, 0.0, 2.2, 0.785, 1.0])
    assert np.abs(away - home).max() > 0.01
    cell.beating = False  # homing needs no commander
    cell.graph.until(lambda: cell.call("home").success, "homing begins")
    cell.until_state("standby")
    cell.graph.until(lambda: np.abs(cell.position - home).max() < 5e-3, "the arm is home")


def test_deactivating_stops_softly_and_sends_nothing(cell: Cell) -> None:
    home = cell.position
    cell.arm()
    cell.send(home, moved(home, 0, 0.6), duration_s=3.0)
    cell.graph.until(lambda: cell.position[0] - home[0] > 0.05, "the arm moves")
    cell.change(Transition.TRANSITION_DEACTIVATE)
    cell.until_state("inactive")
    cell.graph.spin(0.5)
    cell.sent.clear()
    cell.graph.spin(0.5)
    assert not cell.sent
    speeds = np.abs(np.array(cell.states[-1].velocity))
    assert speeds.max() < 0.02
    cell.change(Transition.TRANSITION_ACTIVATE)
    cell.until_state("standby")


def test_a_transition_that_does_not_exist_faults_nothing(cell: Cell) -> None:
    request = ChangeState.Request()
    request.transition.id = Transition.TRANSITION_ACTIVATE
    client = cell.graph.node.create_client(ChangeState, "/arm7/bridge/change_state")
    cell.graph.until(client.service_is_ready, "the service exists")
    client.call_async(request)
    cell.graph.until(lambda: "does not have" in cell.bridge.output(), "the bridge says so")
    cell.graph.spin(0.5)
    assert cell.status["state"] == "standby"


def test_activation_waits_until_the_robot_is_known_and_stands_and_tries_again() -> None:
    bridge, seen = Mock(spec=Bridge), iter([False, False, True, True])
    type(bridge).ready = PropertyMock(side_effect=lambda: next(seen))
    type(bridge).waiting = PropertyMock(return_value=True)
    bridge.trigger_configure.side_effect = [TransitionCallbackReturn.FAILURE, TransitionCallbackReturn.SUCCESS]
    bridge.trigger_activate.side_effect = [TransitionCallbackReturn.FAILURE, TransitionCallbackReturn.SUCCESS]
    assert activate_once_it_stands(bridge, threading.Event())
    assert next(seen, "all asked") == "all asked"
    assert bridge.trigger_activate.call_count == bridge.trigger_configure.call_count == 2


def test_activation_waits_for_no_robot_where_the_profile_is_wrong() -> None:
    bridge = Mock(spec=Bridge)
    type(bridge).waiting = PropertyMock(return_value=False)
    bridge.trigger_configure.return_value = TransitionCallbackReturn.FAILURE
    assert not activate_once_it_stands(bridge, threading.Event())
    assert bridge.trigger_configure.call_count == 1


def test_a_killed_bridge_leaves_the_robot_holding(tmp_path: Path) -> None:
    cell = Cell(tmp_path)
    home = cell.position
    cell.arm()
    cell.send(home, moved(home, 0, 0.6), duration_s=3.0)
    cell.graph.until(lambda: cell.position[0] - home[0] > 0.05, "the arm moves")
    cell.bridge.signal(signal.SIGKILL)
    cell.graph.until(lambda: abs(cell.states[-1].velocity[0]) < 1e-3, "the arm stands")
    stopped = cell.position
    cell.graph.spin(1.0)
    assert np.abs(cell.position - stopped).max() < 2e-3 and stopped[0] - home[0] < 0.55
    cell.close()
