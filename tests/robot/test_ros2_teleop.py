"""An operator in software teleoperates the simulated robot through its bridge: robot and bridge are processes, what he records trains."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs the ros extra: pip install 'vla-rl[ros]'")

from sensor_msgs.msg import JointState, Joy

import sim
from policies.bundle_folder import read_bundle
from policies.config import PolicyConfig
from robot.profile import load_profile
from robot.ros2.operators import BEAT_QOS
from robot.ros2.teleop import Teleop, open_session
from robot.teleop.recording import Recorded
from robot.teleop.tool import ToolMotion
from tests.random_run import random_run
from tests.robot.relaxed import AGES, RATES, SAFETY
from tests.ros import ROOT, Episodes, Graph, Process, unique_domain, write_profile
from tests.vla_rl.test_cli import refused
from vla_rl.cli import main
from vla_rl.config import SimConfig
from vla_rl.data.demos import load_demos
from vla_rl.data.recorded import write_recorded

pytestmark = pytest.mark.ros
SIM = SimConfig(backend="mujoco", tasks=("reach",), num_envs=1, workers=1, image_px=32, control="joint_delta")
SEED = 3


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policy")
    random_run(folder / "run", SIM, PolicyConfig())
    assert main(["export", str(folder / "run"), "--out", str(folder / "bundle")]) == 0
    return folder / "bundle"


class Rig:
    """The robot at the start of an episode, its bridge, and the operator's program in this process."""

    def __init__(self, folder: Path, bundle: Path) -> None:
        domain = unique_domain()
        folder.mkdir(exist_ok=True)
        profile = write_profile(folder, rates=RATES, ages=AGES, safety=SAFETY)
        self.robot = Process(
            domain,
            ["-m", "sim.ros2", str(profile), "--task", "reach", "--seed", str(SEED), "--image-px", "32", "--no-time-code"],
            folder / "robot.log",
        )
        self.bridge = Process(domain, ["-m", "robot.ros2", str(profile), "--activate", "--teleop"], folder / "bridge.log")
        self.graph, self.said = Graph(domain), list[str]()
        loaded = load_profile(profile)
        session = open_session(profile, bundle, folder / "data", "move the tool")
        self.spool = session.spool
        motion = ToolMotion(loaded, rate_limit=session.recording.speed_limit)
        self.operator = Teleop(self.graph.node, loaded, motion, session, self.said.append, "/joy")
        self.episodes = Episodes(self.graph)
        self.states = self.graph.record(JointState, "/arm7/joint_states", BEAT_QOS)
        self.graph.until(lambda: bool(self.episodes) and len(self.states) > 5, "the robot is there")

    def until(self, state: str) -> None:
        def there() -> bool:
            assert self.bridge.alive(), self.bridge.output()
            return self.operator.state == state

        self.graph.until(there, f"the bridge is in {state}", said=self.said)

    def arm(self) -> None:
        self.until("standby")
        self.operator.key("g")
        self.graph.until(self.armed, "the bridge arms", said=self.said)
        self.graph.spin(0.2)  # hands off, before anything moves

    def armed(self) -> bool:
        self.operator.key("a")
        self.graph.spin(0.3)
        return self.operator.state == "active"

    def hold(self, key: str, seconds: float) -> None:
        """A key that the terminal repeats."""
        for _ in range(round(seconds / 0.05)):
            self.operator.key(key)
            self.graph.spin(0.05)

    @property
    def position(self) -> np.ndarray:
        return np.array(self.states[-1].position)

    def close(self) -> None:
        for process in (self.bridge, self.robot):
            process.stop()
        self.graph.close()


@pytest.fixture
def rig(tmp_path: Path, bundle: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path, bundle)
    yield rig
    rig.close()


def demonstrate(rig: Rig) -> Recorded | None:
    """There, back and the gripper closed; `None` where the host was too busy for evenly spaced images, which the operator was told."""
    rig.arm()
    home = rig.position
    rig.operator.key("n")
    rig.graph.spin(0.2)
    rig.hold("i", 0.6)
    rig.hold("o", 0.6)
    rig.hold("c", 0.8)
    rig.graph.spin(0.5)
    there = rig.position
    assert np.abs(there - home)[:7].max() > 0.1 and there[7] < 0.5, f"arm and gripper moved; {rig.said}"
    rig.operator.key("n")
    assert "an episode is being recorded" in rig.said[-1]
    rig.operator.key("y")
    rig.operator.finish()
    if len(rig.spool) == 0:
        late = (" did not come for ", "the camera is slower than the policy")
        assert "not kept: " in rig.said[-1] and any(reason in rig.said[-1] for reason in late), "; ".join(rig.said)
        return None
    assert "kept" in rig.said[-1], "; ".join(rig.said)
    [episode] = rig.spool
    return episode


def test_a_demonstration_is_recorded_trains_and_replays(bundle: Path, tmp_path: Path) -> None:
    episode = None
    for attempt in range(4):
        with closing(Rig(tmp_path / f"attempt{attempt}", bundle)) as rig:
            if (episode := demonstrate(rig)) is not None:
                break
    assert episode is not None, "no attempt was evenly recorded"
    assert episode.clipped == 0, f"{np.abs(episode.action).max(axis=0)}"
    assert len(episode.action) > 30
    assert len(np.unique(episode.obs["observation.images.front"].reshape(len(episode.action), -1), axis=0)) > 20, "the images move"
    described = read_bundle(bundle)
    write_recorded(tmp_path / "data", described, "reach", [episode], {"made": "by a test"})
    demos = load_demos(tmp_path / "data", described.spec, ("reach",))
    np.testing.assert_array_equal(demos.action, episode.action)
    assert demos.obs["task"].tolist() == ["move the tool"] * len(demos)

    settings = {"data.path": tmp_path / "data", "sim.backend": "mujoco", "sim.tasks": "reach", "sim.image_px": 32, "sim.num_envs": 1}
    settings |= {"sim.workers": 1, "algorithm.steps": 2, "algorithm.warmup": 1, "evaluate.episodes": 1, "evaluate.videos": 0}
    flags = [str(part) for name, value in settings.items() for part in (f"--{name}", value)]
    assert main(["train", str(ROOT / "configs" / "tabletop_sft.yaml"), "--run-dir", str(tmp_path / "trained"), *flags]) == 0

    with sim.make("mujoco", ["reach"], 1, 1, image_px=32, control="joint_delta", horizon=1000) as env:
        env.reset([0], [SEED], ["reach"])
        moved = env.step_chunk(episode.action[None], [0], render="none")
    if moved.executed[0] == len(episode.action):  # it did not solve the task by chance
        np.testing.assert_allclose(moved.obs["observation.state"][0, :8], episode.obs["observation.state"][-1, :8], atol=0.03)


def test_a_stop_throws_the_recording_away_and_a_gamepad_is_a_dead_man_switch(rig: Rig) -> None:
    pad = rig.graph.node.create_publisher(Joy, "/joy", BEAT_QOS)
    axes, buttons = [0.0] * 6, [0] * 8
    rig.graph.node.create_timer(0.02, lambda: pad.publish(Joy(axes=axes, buttons=buttons)))
    rig.operator.key("n")
    assert "recording begins while the robot is active" in rig.said[-1]
    rig.until("standby")
    buttons[4], axes[0] = 1, 1.0
    rig.graph.until(rig.armed, "the bridge arms", said=rig.said)
    before = rig.position
    rig.graph.spin(1.0)
    assert np.abs(rig.position - before).max() < 0.01, "a stick that is held while arming moves nothing"

    def moved() -> bool:
        return abs(rig.position[0] - before[0]) > 0.05

    def pushed() -> bool:
        """Again where a busy host kept the gamepad silent for so long that the robot was disarmed."""
        axes[0] = 0.0
        rig.graph.until(rig.armed, "the bridge is armed", said=rig.said)
        rig.operator.key("n")
        axes[0] = 1.0
        rig.graph.until(lambda: moved() or rig.operator.state != "active", "the stick moves the arm to the left", said=rig.said)
        return moved()

    rig.graph.until(pushed, "the stick moves the arm to the left", said=rig.said)
    buttons[4] = 0
    rig.until("standby")
    assert any("thrown away: the robot is in" in text for text in rig.said)
    rig.operator.key("y")
    assert "nothing is being recorded" in rig.said[-1] and not len(rig.spool)


def test_the_program_moves_a_robot_in_a_terminal(tmp_path: Path) -> None:
    domain = unique_domain()
    profile = write_profile(tmp_path, rates=RATES, ages=AGES, safety=SAFETY)
    robot = Process(domain, ["-m", "sim.ros2", str(profile), "--task", "reach", "--image-px", "32"], tmp_path / "robot.log")
    graph = Graph(domain)
    states = graph.record(JointState, "/arm7/joint_states", BEAT_QOS)
    keyboard, terminal = pty.openpty()
    environment = os.environ | {"ROS_DOMAIN_ID": str(domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    command = [sys.executable, "-m", "vla_rl.cli", "teleop", str(profile), "--logs", str(tmp_path)]
    process = subprocess.Popen(command, env=environment, cwd=ROOT, stdin=terminal, stdout=subprocess.PIPE, text=True)
    try:
        graph.until(lambda: len(states) > 5, "the robot is there")
        before = states[-1].position[0]

        def moves() -> bool:
            assert process.poll() is None, process.communicate()[0]
            for key in b"ga":  # until the bridge is there and armed
                os.write(keyboard, bytes([key]))
                graph.spin(0.3)
            for _ in range(8):
                os.write(keyboard, b"j")
                graph.spin(0.05)
            return states[-1].position[0] - before > 0.05

        graph.until(moves, "the arm moves to the left")
        os.write(keyboard, b"q")
        output = process.communicate(timeout=60)[0]
        assert process.returncode == 0 and "i k forward, back" in output and "[active]" in output
        graph.spin(0.5)
        assert np.abs(states[-1].velocity).max() < 0.02, "it was brought to rest"
    finally:
        process.kill()
        robot.stop()
        graph.close()


def test_bad_input_is_one_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arm7 = str(ROOT / "configs" / "robots" / "arm7.yaml")
    assert "recording needs --out, --like BUNDLE and --instruction" in refused(["teleop", arm7, "--out", str(tmp_path / "new")], capsys)
    options = ["--out", str(tmp_path), "--like", "b", "--instruction", "lift"]
    assert f"{tmp_path} exists" in refused(["teleop", arm7, *options], capsys)
    assert "single keys and needs a terminal" in refused(["teleop", arm7], capsys)
    assert "has no link 'hook'" in refused(["teleop", arm7, "--tool", "hook"], capsys)
