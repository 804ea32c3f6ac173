"""LeRobot's own programs drive the simulated robot through its bridge: robot, bridge and lerobot-record are processes.

What needs them is marked slow: it wants an idle machine, and has hung beside other work.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs the ros extra: pip install 'vla-rl[ros]'")
pytest.importorskip("lerobot", reason="needs the train extra: pip install 'vla-rl[train]'")

from lerobot.configs.parser import load_plugin
from lerobot.robots import RobotConfig, make_robot_from_config
from lerobot.utils.errors import DeviceNotConnectedError
from sensor_msgs.msg import JointState

from policies.interface import UserError
from robot.profile import load_profile
from robot.ros2.lerobot_robot import bridged
from robot.ros2.lerobot_robot.bridged import Bridged, BridgedConfig, View, to_features, to_positions
from robot.ros2.lerobot_robot.follower import velocity_toward
from robot.ros2.operators import BEAT_QOS
from tests.robot.attended import Attended
from tests.robot.relaxed import AGES, RATES, SAFETY
from tests.ros import Episodes, Graph, Process, unique_domain, write_profile

pytestmark = pytest.mark.ros
PACKAGE = "robot.ros2.lerobot_robot"
PX = 64
FPS, EPISODE_S = 10, 6


class Rig:
    """The robot, its bridge, and the operator's console in this process."""

    def __init__(self, folder: Path) -> None:
        self.domain, self.folder = unique_domain(), folder
        self.profile = write_profile(folder, rates=RATES, ages=AGES, safety=SAFETY)
        sim = ["-m", "sim.ros2", str(self.profile), "--task", "reach", "--seed", "3", "--image-px", str(PX), "--no-time-code"]
        self.robot = Process(self.domain, sim, folder / "robot.log")
        self.bridge = Process(self.domain, ["-m", "robot.ros2", str(self.profile), "--activate", "--teleop"], folder / "bridge.log")
        self.graph = Graph(self.domain)
        self.attended = Attended(self.graph, "arm7")
        self.episodes = Episodes(self.graph)
        self.states = self.graph.record(JointState, "/arm7/joint_states", BEAT_QOS)
        self.jogs = self.graph.record(JointState, "/arm7/bridge/jog", BEAT_QOS)
        self.graph.until(lambda: bool(self.episodes) and len(self.states) > 5, "the robot is there")
        self.attended.until("standby")

    @property
    def position(self) -> np.ndarray:
        return np.array(self.states[-1].position)

    def config(self, **cameras: View) -> BridgedConfig:
        return BridgedConfig(id="test", calibration_dir=self.folder, profile=self.profile, cameras=cameras)

    def close(self) -> None:
        for process in (self.bridge, self.robot):
            process.stop()
        self.attended.leave()
        self.graph.close()


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    rig = Rig(tmp_path_factory.mktemp("rig"))
    yield rig
    rig.close()


@pytest.fixture
def joined(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bridged]:
    """What LeRobot's factory makes, not yet connected."""
    monkeypatch.setenv("ROS_DOMAIN_ID", str(rig.domain))
    robot = make_robot_from_config(rig.config(front=View(PX, PX)))
    assert isinstance(robot, Bridged)
    yield robot
    if robot.is_connected:
        robot.disconnect()
    rig.attended.until("standby")


def test_velocities_lead_to_the_target() -> None:
    ones = np.ones(4)
    left = np.array([0.0, 0.05, -2.0, 0.04])
    found = velocity_toward(ones + left, ones, 1.5 * ones, np.array([100.0, 100.0, 100.0, 1.0]))
    # nothing left: 0; 0.05 / 0.1 s; the limit, backwards; √(1 · 0.04) where braking takes longer than 0.1 s
    np.testing.assert_allclose(found, [0.0, 0.5, -1.5, 0.2])


def test_a_slow_joint_does_not_overshoot() -> None:
    """A joint that follows velocities at 5 rad/s² as well as it can, told where it was two periods ago."""
    position, velocity, history, dt_s = 0.0, 0.0, [0.0, 0.0, 0.0], 0.02
    for _ in range(200):
        wanted = velocity_toward(np.ones(1), np.array(history[-3:-2]), np.ones(1), 5 * np.ones(1)).item()
        velocity += float(np.clip(wanted - velocity, -5 * dt_s, 5 * dt_s))
        position += velocity * dt_s
        history.append(position)
    assert max(history) < 1.01 and position == pytest.approx(1.0, abs=1e-3)


def test_features_are_by_joint() -> None:
    assert to_features(np.array([0.5, -1.0]), ["a", "b"]) == {"a.pos": 0.5, "b.pos": -1.0}
    np.testing.assert_array_equal(to_positions({"b.pos": -1.0, "a.pos": 0.5}, ["a", "b"]), [0.5, -1.0])
    for action, sentence in {
        "b.pos": "an action lacks b.pos; the robot takes a.pos, b.pos",
        "c.pos": "an action has unknown c.pos; the robot takes a.pos, b.pos",
    }.items():
        wrong = {"a.pos": 0.0, "b.pos": 0.0}
        wrong.pop(action) if action in wrong else wrong.update({action: 0.0})
        with pytest.raises(UserError, match=sentence):
            to_positions(wrong, ["a", "b"])
    with pytest.raises(UserError, match=r"an action's b\.pos is nan"):
        to_positions({"a.pos": 0.0, "b.pos": math.nan}, ["a", "b"])


@pytest.mark.slow
def test_lerobot_finds_it_and_it_moves_only_while_armed(rig: Rig, joined: Bridged) -> None:
    load_plugin(PACKAGE)
    assert RobotConfig.get_choice_class("vla_rl") is BridgedConfig
    names = load_profile(rig.profile).names
    assert joined.action_features == {f"{name}.pos": float for name in names}
    assert joined.observation_features == joined.action_features | {"front": (PX, PX, 3)}
    with pytest.raises(DeviceNotConnectedError, match="not connected"):
        joined.get_observation()

    joined.connect()
    seen = joined.get_observation()
    assert set(seen) == set(joined.observation_features)
    assert seen["front"].shape == (PX, PX, 3) and seen["front"].dtype == np.uint8 and seen["front"].std() > 1
    home = to_positions({name: seen[name] for name in joined.action_features}, names)
    there = home + 0.05 * np.array([1.0, -1.0, 1.0, 1.0, -1.0, 1.0, 1.0, 0.0])
    action = to_features(there, names)

    def send_until(condition, what: str) -> None:
        def sent() -> bool:
            joined.send_action(action)
            return condition()

        rig.graph.until(sent, what)

    until_s = time.monotonic() + 1.0
    send_until(lambda: time.monotonic() > until_s, "a second passes")
    assert np.abs(rig.position - home).max() < 0.005, "nothing moves while it is not armed"

    rig.attended.arm()
    send_until(lambda: np.abs(rig.position - there).max() < 0.005, "the arm arrives")
    assert to_positions(joined.send_action(action), names) == pytest.approx(there, abs=0.01), "what the bridge sent is told"
    seen = joined.get_observation()
    assert to_positions({name: seen[name] for name in action}, names) == pytest.approx(there, abs=0.01)

    action = to_features(home - 1.0 * (np.arange(8) == 0), names)
    send_until(lambda: rig.position[0] < home[0] - 0.02, "the arm moves to the other side")
    rig.jogs.clear()
    rig.graph.until(lambda: bool(rig.jogs) and not np.any(rig.jogs[-1].velocity), "zero velocity is asked for")
    rig.graph.until(lambda: np.abs(rig.states[-1].velocity).max() < 0.02, "it stands")
    stopped = rig.position
    rig.graph.spin(0.5)
    assert stopped[0] > home[0] - 0.7 and np.abs(rig.position - stopped).max() < 0.005 and rig.attended.state == "active"

    with pytest.raises(UserError, match="is inf"):
        joined.send_action(action | {"joint2.pos": math.inf})
    joined.disconnect()
    assert not joined.is_connected
    rig.attended.until("standby")


@pytest.mark.slow
def test_lerobot_record_writes_a_data_set(rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), "HF_LEROBOT_HOME": str(tmp_path / "lerobot")}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("DISPLAY", raising=False)
    flags = {
        "robot.discover_packages_path": PACKAGE, "robot.type": "vla_rl", "robot.profile": rig.profile,
        "robot.cameras": f"{{front: {{height: {PX}, width: {PX}}}}}",
        "teleop.discover_packages_path": "tests.robot.lerobot_teleop", "teleop.type": "scripted", "teleop.profile": rig.profile,
        "dataset.repo_id": "test/arm7", "dataset.root": tmp_path / "data", "dataset.single_task": "sway", "dataset.fps": FPS,
        "dataset.num_episodes": 1, "dataset.episode_time_s": EPISODE_S, "dataset.reset_time_s": 0,
        "dataset.push_to_hub": "false", "play_sounds": "false",
    }  # fmt: skip
    arguments = ["-m", "lerobot.scripts.lerobot_record", *(f"--{name}={value}" for name, value in flags.items())]
    record = Process(rig.domain, arguments, tmp_path / "record.log")
    try:
        rig.jogs.clear()
        rig.graph.until(lambda: bool(rig.jogs) or not record.alive(), "it joins")
        assert record.alive(), record.output()
        rig.attended.arm()
        rig.graph.until(lambda: not record.alive(), "the episode is recorded")
    finally:
        assert record.stop() == 0, record.output()
    rig.attended.until("standby")

    from lerobot.datasets import LeRobotDataset

    data = LeRobotDataset("test/arm7", root=tmp_path / "data")
    names = [f"{name}.pos" for name in load_profile(rig.profile).names]
    assert data.features["action"]["names"] == data.features["observation.state"]["names"] == names
    assert data.features["observation.images.front"]["shape"] == (PX, PX, 3)
    assert data.num_episodes == 1 and FPS * EPISODE_S * 0.5 < data.num_frames <= FPS * EPISODE_S + 1
    assert data.meta.robot_type == "vla_rl" and data[0]["task"] == "sway"
    rows = data.hf_dataset.with_format("numpy")
    action, state = np.stack(rows["action"]), np.stack(rows["observation.state"])
    half = len(action) // 2
    assert np.ptp(state[half:, 0]) > 0.1, "the arm swayed"
    np.testing.assert_allclose(action[half:], state[half:], atol=0.08)
    np.testing.assert_allclose(action[half:, 1:], state[half:, 1:], atol=0.01)
    assert not np.array_equal(data[0]["observation.images.front"], data[len(data) - 1]["observation.images.front"])


@pytest.mark.slow
def test_bad_input_is_one_sentence(rig: Rig, joined: Bridged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridged, "CONNECT_S", 10.0)
    with pytest.raises(ValueError, match="has no camera 'wrist'; it has front, side"):
        make_robot_from_config(rig.config(wrist=View(PX, PX)))
    with pytest.raises(ValueError, match="camera 'front' needs a height and width of at least 1 px, got 0 and 64"):
        rig.config(front=View(0, PX))
    with pytest.raises(DeviceNotConnectedError, match=r"images of camera 'front' .* are 64 px high and 64 wide, 64 and 48 were asked for"):
        Bridged(rig.config(front=View(PX, 48))).connect()
    dark = write_profile(tmp_path, topics={"images": {"front": "/arm7/nothing/image"}})
    with pytest.raises(DeviceNotConnectedError, match=r"camera 'front' on /arm7/nothing/image do not come"):
        Bridged(BridgedConfig(calibration_dir=tmp_path, profile=dark, cameras={"front": View(PX, PX)})).connect()
    other = rig.graph.node.create_publisher(JointState, "/arm7/bridge/jog", BEAT_QOS)
    rig.graph.until(lambda: other.get_subscription_count() > 0, "the bridge knows of another who teleoperates")
    try:
        with pytest.raises(UserError, match="/test teleoperates arm7 already"):
            joined.connect()
    finally:
        rig.graph.node.destroy_publisher(other)
    monkeypatch.setenv("ROS_DOMAIN_ID", str(unique_domain()))
    with pytest.raises(DeviceNotConnectedError, match="no bridge of arm7 is heard on this ROS domain"):
        joined.connect()


@pytest.mark.slow
def test_what_falls_silent_is_said(rig: Rig, joined: Bridged, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joined, "cameras", {})
    joined.connect()
    still = joined.send_action({name: joined.get_observation()[name] for name in joined.action_features})
    rig.robot.stop()
    with pytest.raises(DeviceNotConnectedError, match=r"joint states of arm7 on /arm7/joint_states are 1\.\d+ s old, at most 1 s are"):
        while True:
            joined.get_observation()
    rig.bridge.stop()
    with pytest.raises(DeviceNotConnectedError, match="no bridge of arm7 is heard"):
        while True:
            joined.send_action(still)
