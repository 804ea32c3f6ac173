"""The robot on the graph, against the simulated one: samples in, commands out, conflicts and incompatible endpoints noticed."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs the ros extra: pip install 'vla-rl[ros]'")

import rclpy
from rclpy.context import Context
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from trajectory_msgs.msg import JointTrajectory

from robot.profile import RobotProfile, load_profile
from robot.ros2.comms import CommsThread, make_executor
from robot.ros2.robot_io import RosRobot
from tests.ros import ROOT, Episodes, Graph, Process, unique_domain

pytestmark = pytest.mark.ros
PROFILE = ROOT / "configs" / "robots" / "arm7.yaml"
COMMAND = "/arm7/arm_controller/joint_trajectory"


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    domain = unique_domain()
    process = Process(domain, ["-m", "sim.ros2", str(PROFILE)], tmp_path_factory.mktemp("sim") / "log")
    yield domain
    assert process.stop() == 0, process.output()


@pytest.fixture
def graph(domain: int) -> Iterator[Graph]:
    graph = Graph(domain)
    graph.until(lambda: graph.node.count_subscribers(COMMAND) > 0, "the robot is on the graph")
    yield graph
    graph.close()


@pytest.fixture
def profile() -> RobotProfile:
    return load_profile(PROFILE)


class Side:
    """A node with its comms thread, as the bridge has them."""

    def __init__(self, domain: int) -> None:
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node: Node = rclpy.create_node("side", context=self.context)
        self.failures: list[Exception] = []
        self.comms = CommsThread(self.node, make_executor(self.context), self.failures.append)

    def close(self) -> None:
        self.comms.stop()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)
        assert self.failures == []


@pytest.fixture
def side(domain: int, graph: Graph) -> Iterator[Side]:
    del graph  # which waits for the robot
    side = Side(domain)
    yield side
    side.close()


def eventually(condition, what: str, timeout_s: float = 60.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"waited in vain until {what}"
        time.sleep(0.01)


def test_samples_and_streamed_commands(side: Side, profile: RobotProfile) -> None:
    """0.2 rad in 1 s, sent at the command rate, is followed; samples are fresh and carry three stamps."""
    robot = RosRobot(side.node, profile, lockstep=False)
    side.comms.start()
    eventually(lambda: robot.latest is not None, "a sample arrives")
    eventually(lambda: robot.problems() == (), f"the graph is whole: {robot.problems()}")
    start = robot.latest.position.copy()
    began = time.monotonic()
    while (elapsed := time.monotonic() - began) < 1.2:
        s = min(elapsed, 1.0)
        position, velocity = start.copy(), np.zeros(8)
        position[0] += 0.2 * (3 * s**2 - 2 * s**3)
        velocity[0] = 0.2 * 6 * s * (1 - s)
        robot.send(position, velocity)
        time.sleep(profile.period_s)
    eventually(lambda: abs(robot.latest.position[0] - start[0] - 0.2) < 2e-3, "the joint is where it was told to be")
    sample = robot.latest
    assert 0 <= sample.stamps.receive_ns - sample.capture_ns < 1e9 and sample.capture_ns == sample.stamps.header_ns
    assert 0 < time.monotonic_ns() - sample.stamps.monotonic_ns < 1e9
    assert abs(robot.clock_offset_s) < 0.5 and robot.broken_messages == (0, "")
    assert robot.conflicts() == ()


def test_waits_for_a_later_sample(side: Side, profile: RobotProfile) -> None:
    robot = RosRobot(side.node, profile, lockstep=False)
    side.comms.start()
    first = robot.wait(0, timeout_s=60)
    later = robot.wait(first.stamps.header_ns, timeout_s=60)
    assert later.stamps.header_ns > first.stamps.header_ns
    assert robot.wait(2**62, timeout_s=0.05) is None


def test_a_second_commander_is_a_conflict(side: Side, graph: Graph, profile: RobotProfile) -> None:
    robot = RosRobot(side.node, profile, lockstep=False)
    side.comms.start()
    eventually(lambda: robot.problems() == (), "the graph is whole")
    assert robot.conflicts() == ()
    other = graph.node.create_publisher(JointTrajectory, COMMAND, 1)
    named = (f"{COMMAND} is also commanded by /test",)  # the graph may hear of a publisher before it knows its node
    eventually(lambda: robot.conflicts() == named, "the other one is seen, and by name")
    graph.node.destroy_publisher(other)
    eventually(lambda: robot.conflicts() == (), "the other one is gone")


def test_an_incompatible_controller_is_noticed(side: Side, graph: Graph, profile: RobotProfile) -> None:
    """A transient-local subscriber never hears our volatile commands."""
    from rclpy.qos import DurabilityPolicy

    demanding = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    graph.node.create_subscription(JointTrajectory, COMMAND, lambda _: None, demanding)
    robot = RosRobot(side.node, profile, lockstep=False)
    side.comms.start()
    eventually(lambda: bool(robot.qos_problem), "the middleware says so")
    eventually(lambda: any("/test is incompatible" in problem for problem in robot.problems()), "the graph names the controller")


def test_faulty_joint_states_do_not_get_through(side: Side, graph: Graph, profile: RobotProfile) -> None:
    robot, episodes = RosRobot(side.node, profile, lockstep=False), Episodes(graph)
    side.comms.start()
    eventually(lambda: robot.latest is not None, "a sample arrives")
    true = robot.latest.position
    try:
        graph.set("/arm7/sim_robot", fault_state="nan")
        eventually(lambda: robot.broken_messages[0] > 3, "broken messages are counted")
        assert "joint1 is nan" in robot.broken_messages[1]
        age_s = (time.monotonic_ns() - robot.latest.stamps.monotonic_ns) / 1e9
        assert age_s > 2 * profile.period_s
        graph.set("/arm7/sim_robot", fault_state="reordered")
        eventually(lambda: time.monotonic_ns() - robot.latest.stamps.monotonic_ns < 5e7, "samples are fresh again")
        np.testing.assert_allclose(robot.latest.position, true, atol=5e-3)
        graph.set("/arm7/sim_robot", fault_state="no_velocity")
        eventually(lambda: not robot.latest.effort.any(), "efforts are missing")
        assert np.abs(robot.latest.velocity).max() < 0.05
    finally:
        graph.set("/arm7/sim_robot", fault_state="none")
    graph.until(lambda: bool(episodes), "the robot reports")
