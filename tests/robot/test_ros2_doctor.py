"""The doctor looks at the simulated robot; latency histograms by hand; wiring of every profile."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs the ros extra: pip install 'vla-rl[ros]'")

from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

from policies.interface import UserError
from robot.profile import load_profile
from robot.ros2.adapters import AdapterError
from robot.ros2.doctor import examine_robot, write_histograms
from robot.ros2.latency import LatencyHistogram
from robot.ros2.wiring import command_wiring, state_reader
from tests.ros import ROOT, Graph, Process, unique_domain

pytestmark = pytest.mark.ros
ROBOTS = ROOT / "configs" / "robots"


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    domain = unique_domain()
    process = Process(domain, ["-m", "sim.ros2", str(ROBOTS / "arm7.yaml")], tmp_path_factory.mktemp("sim") / "log")
    graph = Graph(domain)
    graph.until(lambda: graph.node.count_publishers("/arm7/joint_states") > 0, "the robot is on the graph")
    yield domain
    graph.close()
    assert process.stop() == 0, process.output()


def test_a_healthy_robot(domain: int, tmp_path: Path) -> None:
    """Rates of a loaded machine vary, so that the rate alone may be a problem here."""
    report = examine_robot(load_profile(ROBOTS / "arm7.yaml"), ("front",), listen_s=3.0, domain_id=domain)
    assert [problem for problem in report.problems if "the profile says" not in problem] == []
    states, image, arm, gripper, shared = report.lines
    assert states.startswith("/arm7/joint_states") and "Hz of 100" in states and "age p50" in states
    assert image.startswith("/arm7/front/image") and arm.endswith("commanded by nobody") and gripper.endswith("commanded by nobody")
    assert shared.startswith("Fast DDS shares memory here"), "tests look for robots on this host alone"
    for path in write_histograms(report, tmp_path):
        histogram = json.loads(path.read_text())
        assert path.name == f"latency_{histogram['stream']}.json" and histogram["unit"] == "s"
        assert len(histogram["edges"]) == len(histogram["counts"]) + 1 and sum(histogram["counts"]) > 10
        assert histogram["edges"][0] == 0.0
    assert {path.name for path in tmp_path.iterdir()} == {"latency_joint_states.json", "latency_front.json"}


def test_what_is_wrong_is_named(domain: int) -> None:
    """A camera that is not there, a second and unreliable source of joint states, somebody who commands."""
    graph = Graph(domain)
    try:
        unreliable = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        graph.node.create_publisher(JointState, "/arm7/joint_states", unreliable)
        graph.node.create_publisher(Float64MultiArray, "/arm7/gripper_controller/commands", 1)
        graph.node.create_publisher(Float64MultiArray, "/arm7/arm_controller/joint_trajectory", 1)
        report = examine_robot(load_profile(ROBOTS / "arm7.yaml"), ("side",), listen_s=1.0, domain_id=domain)
    finally:
        graph.close()
    found = "\n".join(report.problems)
    assert "/arm7/joint_states: 2 publishers" in found and "/test" in found
    assert "/arm7/side/image: nobody publishes it" in found
    assert any(line.endswith("gripper_controller/commands commanded by /test") for line in map(" ".join, map(str.split, report.lines)))


def test_histogram() -> None:
    """Ages of 0.5, 1.0, 1.9 and 4.2 ms fall into bins 0, 1, 1 and 4 of 1 ms."""
    histogram = LatencyHistogram.of("s", [0.0005, 0.001, 0.0019, 0.0042])
    assert histogram.counts == (1, 2, 0, 0, 1)
    assert histogram.edges == (0.0, 0.001, 0.002, 0.003, 0.004, 0.005)


@pytest.mark.parametrize(
    ("ages", "says"), [([], "no sample of stream 's' arrived"), ([0.1, -0.25], r"0\.2500 s before its own stamp: .* synchronise them")]
)
def test_no_histogram_of_nonsense(ages: list[float], says: str) -> None:
    with pytest.raises(UserError, match=says):
        LatencyHistogram.of("s", ages)


@pytest.mark.parametrize("name", ["arm7", "panda", "so101", "ur5e"])
def test_profiles_on_ros_2_are_wired(name: str) -> None:
    profile = load_profile(ROBOTS / f"{name}.yaml")
    wired = [profile.names[i] for each in command_wiring(profile, state_reader(profile)) for i in each.index]
    assert sorted(wired) == sorted(profile.names)


def test_a_vendor_whose_messages_are_missing_is_named() -> None:
    with pytest.raises(AdapterError, match=r"unitree_hg\.msg\.\w+ is not installed"):
        state_reader(load_profile(ROBOTS / "g1.yaml"))
