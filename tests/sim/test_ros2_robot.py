"""The simulated robot as a process on the graph: what it publishes, accepts, refuses, and how time passes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs the ros extra: pip install 'vla-rl[ros]'")

from builtin_interfaces.msg import Duration, Time
from rclpy.qos import qos_profile_sensor_data
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

import sim
from robot.ros2.images import rgb
from sim.robots import ARM7
from sim.ros2 import overlay
from sim.ros2.arm import Arm
from sim.ros2.run import START_NS
from sim.ros2.vendor import Imperfections
from tests.ros import Episodes, Graph, Process, unique_domain, write_profile

pytestmark = pytest.mark.ros
ARM = tuple(f"joint{i}" for i in range(1, 8))
FORWARD = [
    {"kind": "forward_command", "topic": "/arm7/arm_controller/commands", "joints": list(ARM)},
    {"kind": "forward_command", "topic": "/arm7/gripper_controller/commands", "joints": ["gripper"]},
]


@pytest.fixture(scope="module")
def domain() -> int:
    return unique_domain()


@pytest.fixture(scope="module")
def robot(domain: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    process = Process(
        domain, ["-m", "sim.ros2", "configs/robots/arm7.yaml", "--task", "lift", "--seed", "3"], tmp_path_factory.mktemp("sim") / "log"
    )
    yield process
    assert process.stop() == 0, process.output()


@pytest.fixture
def graph(domain: int, robot: Process) -> Iterator[Graph]:
    graph = Graph(domain)
    yield graph
    graph.close()
    assert robot.alive(), robot.output()


def joint_states(graph: Graph) -> list[JointState]:
    states = graph.record(JointState, "/arm7/joint_states", qos_profile_sensor_data)
    graph.until(lambda: len(states) > 1, "joint states arrive")
    return states


def trajectory(times_s: list[float], positions: list[list[float]], joints: tuple[str, ...] = ARM) -> JointTrajectory:
    points = []
    for time_s, row in zip(times_s, positions, strict=True):
        points.append(JointTrajectoryPoint(positions=row, velocities=[0.0] * len(row)))
        points[-1].time_from_start = Duration(sec=int(time_s), nanosec=round(1e9 * (time_s % 1)))
    return JointTrajectory(joint_names=list(joints), points=points)


def test_publishes_joints_and_marked_images(graph: Graph) -> None:
    states, images = joint_states(graph), graph.record(Image, "/arm7/front/image", qos_profile_sensor_data)
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
    sender = graph.node.create_publisher(JointTrajectory, "/arm7/arm_controller/joint_trajectory", 10)
    graph.until(lambda: sender.get_subscription_count() == 1, "the controller listens")
    sender.publish(trajectory([0.5, 1.0], [goal[::-1], goal[::-1]], ARM[::-1]))
    graph.until(lambda: abs(states[-1].position[0] - goal[0]) < 0.005, "the goal is reached")
    del middle
    states.clear()
    graph.until(lambda: len(states) > 20, "time passes")
    assert max(abs(state.position[0] - goal[0]) for state in states) < 0.005


def test_gripper_closes(graph: Graph) -> None:
    states = joint_states(graph)
    sender = graph.node.create_publisher(Float64MultiArray, "/arm7/gripper_controller/commands", 10)
    graph.until(lambda: sender.get_subscription_count() == 1, "the controller listens")
    sender.publish(Float64MultiArray(data=[0.0]))
    graph.until(lambda: states[-1].position[7] < 0.1, "the gripper is closed")


def test_refuses_what_the_controller_refuses(graph: Graph) -> None:
    episodes = Episodes(graph)
    graph.until(lambda: bool(episodes), "the robot reports")
    before = episodes.now["refused"]
    sender = graph.node.create_publisher(JointTrajectory, "/arm7/arm_controller/joint_trajectory", 10)
    graph.until(lambda: sender.get_subscription_count() == 1, "the controller listens")
    sender.publish(trajectory([0.5], [[0.0] * 7], (*ARM[:6], "elbow")))
    graph.until(lambda: episodes.now["refused"] == before + 1, "the refusal is counted")
    assert "'elbow'" in episodes.now["last_refusal"]


def test_aborts_on_a_jump_until_cleared(graph: Graph) -> None:
    states, episodes = joint_states(graph), Episodes(graph)
    arm = Arm(ARM7, Imperfections(), image_px=32)
    arm.reset("lift", 3)
    home = arm.home[:7].tolist()
    assert graph.trigger("/arm7/sim_robot/reset").success
    graph.until(lambda: np.allclose(states[-1].position[:7], home, atol=0.005), "the states are those after the reset")
    sender = graph.node.create_publisher(JointTrajectory, "/arm7/arm_controller/joint_trajectory", 10)
    graph.until(lambda: sender.get_subscription_count() == 1, "the controller listens")
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


def test_aborts_when_asked_until_cleared(graph: Graph) -> None:
    episodes = Episodes(graph)
    assert graph.trigger("/arm7/sim_robot/reset").success
    assert all(result.successful for result in graph.set("/arm7/sim_robot", fault_command="abort"))
    graph.until(lambda: bool(episodes) and episodes.now["aborted"] == "it was asked for", "the robot aborts")
    assert all(result.successful for result in graph.set("/arm7/sim_robot", fault_command="none"))
    assert "it was asked for" in graph.trigger("/arm7/sim_robot/clear").message
    graph.until(lambda: not episodes.now["aborted"], "the robot takes commands again")


def test_reset_is_the_episode_of_task_and_seed(graph: Graph) -> None:
    """Wrong names are refused with a reason; the arm holds where the episode starts."""
    states, episodes = joint_states(graph), Episodes(graph)
    [refused] = graph.set("/arm7/sim_robot", task="lifft")
    assert not refused.successful and "allowed: reach, push, lift" in refused.reason
    assert all(result.successful for result in graph.set("/arm7/sim_robot", task="push", seed=5))
    answer = graph.trigger("/arm7/sim_robot/reset")
    graph.until(lambda: bool(episodes) and episodes.now["task"] == "push", "the episode has begun")
    assert (episodes.now["seed"], episodes.now["success"], answer.message) == (5, False, episodes.now["instruction"])
    arm = Arm(ARM7, Imperfections(), image_px=32)
    arm.reset("push", 5)
    home = arm.read().position
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
            "freeze": lambda: (
                len({tuple(state.position) for state in states[-10:]}) == 1 and len({s.header.stamp.nanosec for s in states[-10:]}) == 10
            ),
            "partial": lambda: len(states[-1].name) == len(states[-1].position) == 6,
            "nan": lambda: np.isnan(states[-1].position[0]),
        }[fault]
        graph.until(shown, f"the fault {fault} shows")
    finally:
        graph.set("/arm7/sim_robot", fault_state="none")


def test_camera_faults_on_the_wire(graph: Graph) -> None:
    images = graph.record(Image, "/arm7/front/image", qos_profile_sensor_data)
    graph.set("/arm7/sim_robot", fault_camera="size_change")
    graph.until(lambda: bool(images) and images[-1].width == 32, "the size changes")
    graph.set("/arm7/sim_robot", fault_camera="none")
    graph.until(lambda: images[-1].width == 64, "the camera recovers")


def environment(task: str, seed: int, steps: int) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """What the environment shows before every step of random joint deltas: states, images, and the servo targets `(8,)`."""
    actions = np.random.default_rng(0).uniform(-1, 1, (1, steps, 8)).astype(np.float32)
    states, images, targets = [], [], []
    with sim.make("mujoco", [task], 1, 1, image_px=64, control="joint_delta") as env:
        obs = env.reset([0], [seed], [task])
        for step in range(steps):
            states.append(obs["observation.state"][0])
            images.append(obs["observation.images.front"][0])
            obs = env.step_chunk(actions[:, step : step + 1], [0]).obs
            command = env.snapshot([0])[0].command
            targets.append(command[:8].astype(float))
    return states, images, targets


def run_lockstep(folder: Path, task: str, seed: int, targets: list[np.ndarray]) -> list[tuple[JointState, Image]]:
    """State and image of every tick of a robot that is sent one target per tick."""
    domain = unique_domain()
    profile = write_profile(folder, rates={"state_hz": 100.0, "command_hz": 20.0}, controllers=FORWARD)
    options = ["--clock", "lockstep", "--no-time-code", "--task", task, "--seed", str(seed)]
    process = Process(domain, ["-m", "sim.ros2", str(profile), *options], folder / "log")
    graph = Graph(domain)
    try:
        states, images = graph.record(JointState, "/arm7/joint_states"), graph.record(Image, "/arm7/front/image", qos_profile_sensor_data)
        clocks = graph.record(Clock, "/clock")
        senders = [graph.node.create_publisher(Float64MultiArray, controller["topic"], 10) for controller in FORWARD]
        graph.until(lambda: all(sender.get_subscription_count() for sender in senders), "the controllers listen")
        shown = []
        for tick, target in enumerate(targets):
            stamp = START_NS + tick * 50_000_000
            graph.until(lambda stamp=stamp: at(states, stamp) is not None and at(images, stamp) is not None, f"tick {tick} arrives")
            shown.append((at(states, stamp), at(images, stamp)))
            senders[0].publish(Float64MultiArray(data=target[:7].tolist()))
            senders[1].publish(Float64MultiArray(data=target[7:].tolist()))
        last = START_NS + len(targets) * 50_000_000
        graph.until(lambda: at(states, last) is not None, "the last tick arrives")
        graph.spin(0.5)
        assert max(ns(clock.clock) for clock in clocks) == last, "time waits for the command of the next tick"
        process.signal(signal.SIGINT)
        assert process.stop() == 0, process.output()
        return shown
    finally:
        graph.close()
        process.stop()


def ns(stamp: Time) -> int:
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def at(messages: list[Any], stamp_ns: int) -> Any:
    return next((message for message in reversed(messages) if ns(message.header.stamp) == stamp_ns), None)


def test_lockstep_is_bit_equal_to_the_environment_and_to_itself(tmp_path: Path) -> None:
    states, images, targets = environment("push", 7, steps=40)
    runs = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        runs.append(run_lockstep(tmp_path / name, "push", 7, targets))
    for tick, (state, image) in enumerate(runs[0]):
        measured = np.array(state.position, np.float32)
        commanded = targets[tick - 1].astype(np.float32) if tick else measured
        np.testing.assert_array_equal(np.concatenate([measured, (commanded - measured)[:7]]), states[tick], err_msg=f"tick {tick}")
        np.testing.assert_array_equal(rgb(image), images[tick], err_msg=f"tick {tick}")
    assert runs[0] == runs[1]
    assert len({tuple(state.position) for state, _ in runs[0]}) == 40
