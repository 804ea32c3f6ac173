"""The simulated robot as a process on the graph: what it publishes, accepts, refuses, and how time passes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs the ros extra: pip install 'vla-rl[ros]'")

from builtin_interfaces.msg import Duration
from rclpy.qos import qos_profile_sensor_data
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from robot.ros2.images import rgb
from sim.ros2 import overlay
from tests.ros import Episodes, Graph, Process, unique_domain

pytestmark = pytest.mark.ros
ARM = tuple(f"joint{i}" for i in range(1, 8))


@pytest.fixture(scope="module")
def domain() -> int:
    return unique_domain()


@pytest.fixture(scope="module")
def robot(domain: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    process = Process(domain, ["/tmp/sim_launch.py", "joint_trajectory", "--task", "lift", "--seed", "3"], tmp_path_factory.mktemp("sim") / "log")
    yield process
    assert process.stop() == 0, process.output()


@pytest.fixture
def graph(domain: int, robot: Process) -> Iterator[Graph]:
    graph = Graph(domain)
    yield graph
    graph.close()
    assert robot.alive(), robot.output()


def joint_states(graph: Graph) -> list[JointState]:
    states = graph.record(JointState, "/joint_states", qos_profile_sensor_data)
    graph.until(lambda: len(states) > 1, "joint states arrive")
    return states


def trajectory(times_s: list[float], positions: list[list[float]], joints: tuple[str, ...] = ARM) -> JointTrajectory:
    points = []
    for time_s, row in zip(times_s, positions, strict=True):
        points.append(JointTrajectoryPoint(positions=row, velocities=[0.0] * len(row)))
        points[-1].time_from_start = Duration(sec=int(time_s), nanosec=round(1e9 * (time_s % 1)))
    return JointTrajectory(joint_names=list(joints), points=points)


def test_publishes_joints_and_marked_images(graph: Graph) -> None:
    states, images = joint_states(graph), graph.record(Image, "/front/image_raw", qos_profile_sensor_data)
    graph.until(lambda: len(images) > 5 and len(states) > 20, "images arrive")
    assert states[0].name == [*ARM, "gripper"]
    assert (len(states[0].velocity), len(states[0].effort)) == (8, 8)
    frames, codes = zip(*(overlay.read(rgb(image)) for image in images), strict=True)
    assert list(frames) == list(range(frames[0], frames[0] + len(frames)))
    stamps_ms = [image.header.stamp.sec * 1000 + image.header.stamp.nanosec // 1_000_000 for image in images]
    assert [stamp % 65_536 for stamp in stamps_ms] == list(codes)
    assert (images[0].width, images[0].encoding, images[0].header.frame_id) == (64, "rgb8", "front")


def test_follows_a_trajectory_and_holds_at_its_end(graph: Graph) -> None:
    states = joint_states(graph)
    start = list(states[-1].position[:7])
    goal = [start[0] + 0.3, *start[1:]]
    middle = [start[0] + 0.15, *start[1:]]
    sender = graph.node.create_publisher(JointTrajectory, "/arm_controller/joint_trajectory", 10)
    graph.until(lambda: sender.get_subscription_count() == 1, "the controller listens")
    sender.publish(trajectory([0.5, 1.0], [goal[::-1], goal[::-1]], ARM[::-1]))
    graph.until(lambda: abs(states[-1].position[0] - goal[0]) < 0.005, "the goal is reached")
    del middle
    states.clear()
    graph.until(lambda: len(states) > 20, "time passes")
    assert max(abs(state.position[0] - goal[0]) for state in states) < 0.005


def test_gripper_closes(graph: Graph) -> None:
    states = joint_states(graph)
    sender = graph.node.create_publisher(Float64MultiArray, "/gripper_controller/commands", 10)
    graph.until(lambda: sender.get_subscription_count() == 1, "the controller listens")
    sender.publish(Float64MultiArray(data=[0.0]))
    graph.until(lambda: states[-1].position[7] < 0.1, "the gripper is closed")


def test_refuses_what_the_controller_refuses(graph: Graph) -> None:
    episodes = Episodes(graph)
    graph.until(lambda: bool(episodes), "the robot reports")
    before = episodes.now["refused"]
    sender = graph.node.create_publisher(JointTrajectory, "/arm_controller/joint_trajectory", 10)
    graph.until(lambda: sender.get_subscription_count() == 1, "the controller listens")
    sender.publish(trajectory([0.5], [[0.0] * 7], (*ARM[:6], "elbow")))
    graph.until(lambda: episodes.now["refused"] == before + 1, "the refusal is counted")
    assert "'elbow'" in episodes.now["last_refusal"]


def test_aborts_on_a_jump_until_cleared(graph: Graph) -> None:
    states, episodes = joint_states(graph), Episodes(graph)
    assert graph.trigger("/arm7/sim_robot/reset").success
    sender = graph.node.create_publisher(JointTrajectory, "/arm_controller/joint_trajectory", 10)
    graph.until(lambda: sender.get_subscription_count() == 1, "the controller listens")
    home = list(states[-1].position[:7])
    jump = [home[0] + 1.0, *home[1:]]
    sender.publish(trajectory([0.001], [jump]))
    graph.until(lambda: bool(episodes) and bool(episodes.now["aborted"]), "the robot aborts")
    assert "arm joint 0 was told to jump by" in episodes.now["aborted"]
    refused = episodes.now["refused"]
    sender.publish(trajectory([1.0], [home]))
    graph.until(lambda: episodes.now["refused"] > refused, "the robot refuses")
    assert abs(states[-1].position[0] - home[0]) < 0.3
    assert "discontinuity" in graph.trigger("/arm7/sim_robot/clear").message
    sender.publish(trajectory([1.0], [home]))
    graph.until(lambda: not episodes.now["aborted"] and abs(states[-1].position[0] - home[0]) < 0.005, "the robot moves again")


def test_reset_is_the_episode_of_task_and_seed(graph: Graph) -> None:
    """Wrong names are refused with a reason; the start is the environment's, bit for bit."""
    states, episodes = joint_states(graph), Episodes(graph)
    [refused] = graph.set("/arm7/sim_robot", task="lifft")
    assert not refused.successful and "allowed: reach, push, lift" in refused.reason
    assert all(result.successful for result in graph.set("/arm7/sim_robot", task="push", seed=5))
    answer = graph.trigger("/arm7/sim_robot/reset")
    graph.until(lambda: bool(episodes) and episodes.now["task"] == "push", "the episode has begun")
    assert (episodes.now["seed"], episodes.now["success"], answer.message) == (5, False, episodes.now["instruction"])
    import sim

    with sim.make("mujoco", ["push"], 1, 1, image_px=32) as env:
        home = env.reset([0], [5], ["push"])["observation.state"][0]
    graph.until(lambda: np.abs(np.array(states[-1].position) - home).max() < 2e-3, "the arm is home")


@pytest.mark.parametrize("fault", ["stop", "freeze", "partial", "nan"])
def test_state_faults_on_the_wire(graph: Graph, fault: str) -> None:
    states = joint_states(graph)
    assert graph.set("/arm7/sim_robot", fault_state=fault)[0].successful
    try:
        if fault == "stop":
            graph.spin(0.5)
            states.clear()
            graph.spin(1.0)
            assert not states
            return
        shown = {
            "freeze": lambda: len({tuple(state.position) for state in states[-10:]}) == 1 and len({s.header.stamp.nanosec for s in states[-10:]}) == 10,
            "partial": lambda: len(states[-1].name) == len(states[-1].position) == 6,
            "nan": lambda: np.isnan(states[-1].position[0]),
        }[fault]
        graph.until(shown, f"the fault {fault} shows")
    finally:
        graph.set("/arm7/sim_robot", fault_state="none")


def test_camera_faults_on_the_wire(graph: Graph) -> None:
    images = graph.record(Image, "/front/image_raw", qos_profile_sensor_data)
    graph.set("/arm7/sim_robot", fault_camera="size_change")
    graph.until(lambda: bool(images) and images[-1].width == 32, "the size changes")
    graph.set("/arm7/sim_robot", fault_camera="none")
    graph.until(lambda: images[-1].width == 64, "the camera recovers")


def run_lockstep(tmp_path: Path, ticks: int) -> list[tuple[int, bytes, bytes]]:
    """Stamp, joint state and image of each tick of a robot that is told, tick by tick, to turn joint 1."""
    domain = unique_domain()
    options = ["--clock", "lockstep", "--task", "push", "--seed", "7"]
    process = Process(domain, ["/tmp/sim_launch.py", "forward_command", *options], tmp_path / "log")
    graph = Graph(domain)
    try:
        states, images = graph.record(JointState, "/joint_states", 50), graph.record(Image, "/front/image_raw", qos_profile_sensor_data)
        clocks = graph.record(Clock, "/clock", 50)
        arm = graph.node.create_publisher(Float64MultiArray, "/arm_controller/commands", 10)
        gripper = graph.node.create_publisher(Float64MultiArray, "/gripper_controller/commands", 10)
        graph.until(lambda: bool(arm.get_subscription_count() and gripper.get_subscription_count()), "the controllers listen")
        seen: list[tuple[int, bytes, bytes]] = []
        for tick in range(ticks):
            stamp = 1000 + 50 * tick

            def of(messages: list, stamp: int = stamp) -> list:
                return [m for m in messages if m.header.stamp.sec * 1000 + m.header.stamp.nanosec // 1_000_000 == stamp]

            graph.until(lambda of=of: bool(of(states) and of(images)), f"tick {tick} arrives")
            state, image = of(states)[0], of(images)[0]
            seen.append((stamp, np.array([*state.position, *state.velocity]).tobytes(), bytes(image.data)))
            home = list(state.position[:7]) if tick == 0 else home
            gripper.publish(Float64MultiArray(data=[1.0]))
            arm.publish(Float64MultiArray(data=[home[0] + 0.02 * tick, *home[1:]]))
        graph.spin(1.0)
        last = max(c.clock.sec * 1000 + c.clock.nanosec // 1_000_000 for c in clocks)
        assert last == 1000 + 50 * ticks, "time waits for the command of the next tick"
        process.signal(signal.SIGINT)
        assert process.stop() == 0, process.output()
        return seen
    finally:
        graph.close()
        process.stop()


def test_lockstep_runs_are_bit_equal(tmp_path: Path) -> None:
    first, second = run_lockstep(tmp_path, 30), run_lockstep(tmp_path, 30)
    assert first == second
    assert len({state for _, state, _ in first}) == 30 and len({image for _, _, image in first}) == 30
