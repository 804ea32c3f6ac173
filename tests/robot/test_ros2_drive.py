"""An SO-101 through LeRobot's driver: servos in this process, `vla-rl drive` and the bridge as processes, the test is the operator."""

from __future__ import annotations

import math
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

pytest.importorskip("rclpy", reason="needs the ros extra: pip install 'vla-rl[ros]'")
pytest.importorskip("lerobot", reason="needs the train extra: pip install 'vla-rl[train]'")
pytest.importorskip("scservo_sdk", reason="needs the so101 extra: pip install 'vla-rl[so101]'")

from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

from robot.profile import load_profile
from robot.ros2.driver import Command, Gate
from robot.ros2.operators import BEAT_QOS
from tests.repo.imports import ROOT
from tests.robot.attended import Attended
from tests.robot.relaxed import AGES, RATES, SAFETY
from tests.robot.servos import NAMES, TICKS, Servos, write_calibration
from tests.ros import Graph, Process, unique_domain

SO101 = ROOT / "configs" / "robots" / "so101.yaml"


class Rig:
    """Servos, driver, bridge, and the operator's console."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_calibration(folder)
        monkeypatch.setenv("HF_LEROBOT_HOME", str(folder))
        profile = yaml.safe_load(SO101.read_text()) | {"rates": RATES, "ages": AGES}
        profile["safety"] |= SAFETY
        path = folder / "so101.yaml"
        path.write_text(yaml.safe_dump(profile))
        self.servos, domain = Servos(), unique_domain()
        self.driver = Process(
            domain, ["-m", "robot.ros2.drive", str(path), "--port", self.servos.port, "--id", "arm"], folder / "driver.log"
        )
        self.graph = Graph(domain)
        self.states = self.graph.record(JointState, "/so101/joint_states", BEAT_QOS)
        self.graph.until(self._heard, "the driver publishes joint states")
        self.bridge = Process(domain, ["-m", "robot.ros2", str(path), "--activate", "--teleop"], folder / "bridge.log")
        self.attended = Attended(self.graph, "so101")
        self._jog = self.graph.node.create_publisher(JointState, "/so101/bridge/jog", BEAT_QOS)
        self.velocity: dict[str, float] = {}
        self.graph.node.create_timer(0.02, self._ask)
        self.attended.until("standby")

    def _heard(self) -> bool:
        assert self.driver.alive(), self.driver.output()
        return len(self.states) > 5

    def _ask(self) -> None:
        self._jog.publish(JointState(name=list(NAMES), velocity=[self.velocity.get(name, 0.0) for name in NAMES]))

    def radians(self, name: str) -> float:
        """Where a servo's horn really is."""
        return (self.servos[name].position - TICKS / 2) * 2 * math.pi / (TICKS - 1)

    def close(self) -> None:
        self.bridge.stop()
        self.driver.stop()
        self.attended.leave()
        self.graph.close()
        self.servos.close()


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    rig = Rig(tmp_path, monkeypatch)
    yield rig
    rig.close()


@pytest.mark.ros
def test_an_so101_moves_behind_the_filter_and_holds_where_commands_end(rig: Rig) -> None:
    assert rig.states[-1].name == list(NAMES) and rig.states[-1].position == pytest.approx([0, 0, 0, 0, 0, 0.5], abs=1e-3)
    rig.velocity = {"shoulder_pan": 0.5, "gripper": 0.5}
    rig.graph.spin(0.5)
    assert abs(rig.radians("shoulder_pan")) < 0.01, "it does not move before it is armed"

    rig.attended.arm()
    rig.graph.until(lambda: rig.radians("shoulder_pan") > 0.4, "the servo turns")
    assert rig.servos["gripper"].position > TICKS / 2 + 100 and abs(rig.radians("elbow_flex")) < 0.01
    rig.graph.until(lambda: rig.states[-1].position[0] > 0.4, "the turn is measured")

    # against the joint's limit: the filter stops it inside its soft margin
    limits = load_profile(SO101).joints[0]
    rig.velocity = {"shoulder_pan": 2.0}
    rig.graph.until(lambda: rig.radians("shoulder_pan") > limits.soft[1] - 0.02, "it comes to its limit")
    rig.graph.spin(0.5)
    assert rig.radians("shoulder_pan") <= limits.soft[1] + 0.002

    rig.velocity = {"shoulder_pan": -0.5}
    rig.graph.until(lambda: rig.radians("shoulder_pan") < limits.soft[1] - 0.2, "it goes back")
    assert rig.bridge.stop() == 0, rig.bridge.output()
    rig.graph.until(lambda: "the motors hold the last one" in rig.driver.output(), "the driver says that commands ended")
    held = rig.radians("shoulder_pan")
    rig.graph.spin(0.3)
    assert rig.radians("shoulder_pan") == pytest.approx(held, abs=1e-3) and rig.servos["shoulder_pan"].torque

    wild = rig.graph.node.create_publisher(Float64MultiArray, "/so101/commands", 1)
    rig.graph.until(lambda: wild.get_subscription_count() == 1, "the driver hears the test")
    wild.publish(Float64MultiArray(data=[3.0, 0.0, 0.0, 0.0, 0.0, 0.5]))
    rig.graph.until(lambda: "is refused: shoulder_pan should go to 3.000 rad" in rig.driver.output(), "it is refused")
    rig.graph.spin(0.2)
    assert rig.radians("shoulder_pan") == pytest.approx(held, abs=1e-3)
    assert rig.driver.stop() == 0 and "torque is on" in rig.driver.output()
    assert rig.servos["shoulder_pan"].torque


@pytest.mark.ros
def test_two_who_command_are_not_obeyed(rig: Rig) -> None:
    rig.attended.arm()
    other = rig.graph.node.create_publisher(Float64MultiArray, "/so101/commands", 1)
    rig.graph.until(lambda: "2 nodes command this robot" in rig.driver.output(), "the driver refuses")
    rig.graph.until(lambda: rig.attended.state == "fault", "the bridge sees it too")
    rig.graph.node.destroy_publisher(other)


@pytest.mark.ros
def test_a_driver_that_is_ended_while_it_starts_leaves_the_arm_limp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_calibration(tmp_path)
    monkeypatch.setenv("HF_LEROBOT_HOME", str(tmp_path))
    servos = Servos()
    try:
        command = ["-m", "robot.ros2.drive", str(SO101), "--port", servos.port, "--id", "arm"]
        driver = Process(unique_domain(), command, tmp_path / "driver.log")
        time.sleep(1.0)  # LeRobot is being imported
        assert abs(driver.stop()) in (0, signal.SIGTERM), driver.output()
        assert not any(servo.torque for servo in servos.servos.values())
    finally:
        servos.close()


@pytest.mark.ros
def test_a_bus_that_falls_silent_is_a_fault_and_ends_the_driver(rig: Rig) -> None:
    rig.attended.arm()
    rig.velocity = {"wrist_roll": 0.3}
    rig.graph.until(lambda: rig.radians("wrist_roll") > 0.1, "it moves")
    rig.servos.silent = True
    rig.attended.until("fault")
    rig.graph.until(lambda: not rig.driver.alive(), "the driver gives up")
    assert rig.driver.stop() == 2 and "given up after 2 s: the so101 does not answer" in rig.driver.output()


PROFILE = load_profile(SO101)
MEASURED = np.array([0.0, 0.0, 0.0, -1.7, 0.0, 0.5])
"""The wrist hangs beyond its limit of -1.658 rad."""
LEASH = PROFILE.joints[0].leash


def command(*position: float, joints: tuple[int, ...] = (0, 1, 2, 3, 4, 5)) -> Command:
    return Command(np.array(joints), np.array(position), 0.0)


@pytest.mark.parametrize(
    ("position", "why"),
    [
        ([0.1, 0.0, 0.0, -1.7, 0.0, 0.5], ""),
        ([0.0, 0.0, 0.0, -1.66, 0.0, 0.9], ""),  # inward, though not inside yet; the gripper opens
        ([0.0, 0.0, 0.0, -1.71, 0.0, 0.5], ""),  # one flicker of its encoder further out
        ([LEASH - 0.01, 0.0, 0.0, -1.7, 0.0, 0.5], ""),
        ([LEASH + 0.01, 0.0, 0.0, -1.7, 0.0, 0.5], r"shoulder_pan should go from 0\.000 to 0\.410 rad, further than 0\.400"),
        ([0.0, 0.0, 0.0, -1.75, 0.0, 0.5], r"wrist_flex should go to -1\.750 rad, outside of -1\.717 to 1\.658"),
        ([0.0, 0.0, 0.0, -1.7, 0.0, 1.01], r"gripper should go to 1\.010 1, outside of 0\.000 to 1\.000"),
        ([math.nan, 0.0, 0.0, -1.7, 0.0, 0.5], "shoulder_pan is nan"),
        ([0.0, 0.0], "it has 2 positions, the controller has 6 joints"),
    ],
)
def test_first_commands_that_no_filter_let_through_are_refused(position: list[float], why: str) -> None:
    goal, found = Gate(PROFILE).judge(command(*position), MEASURED, 0.0)
    assert re.fullmatch(why, found), found
    assert (goal is None) == bool(why)


def test_a_command_of_some_joints_keeps_the_others() -> None:
    gate = Gate(PROFILE)
    goal, why = gate.judge(command(0.9, 0.1, joints=(5, 0)), MEASURED, 0.0)
    assert why == "" and goal is not None and goal.tolist() == [0.1, 0.0, 0.0, -1.7, 0.0, 0.9]
    assert gate.judge(command(0.1, 0.2, joints=(5, 0)), MEASURED, 0.02)[1] == "gripper should go by 0.800 1 at once, 0.210 are left to it"


def test_no_stream_leads_faster_than_a_joint_may_go() -> None:
    """Whoever stays within the leash of where the arm is at every tick: it follows at once, and must not be led at 20 rad/s."""
    gate, now_s, measured = Gate(PROFILE), 0.0, np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.5])
    way = refused = 0.0
    for _ in range(100):
        now_s += PROFILE.period_s
        wish = measured.copy()
        wish[0] = -0.3 if measured[0] > 0 else 0.3
        goal, why = gate.judge(command(*wish), measured, now_s)
        refused += bool(why)
        if goal is not None:
            way += abs(goal[0] - measured[0])
            measured = goal
    limit = PROFILE.joints[0].velocity
    assert refused > 30 and way <= 1.05 * limit * 100 * PROFILE.period_s + 0.4 + 4 * limit * PROFILE.period_s


def test_commands_at_full_speed_pass_also_when_they_come_in_heaps() -> None:
    """Sent every 0.02 s at the joint's fastest, they come two at a time, of which the newest is looked at, by a clock that is 2 % slow."""
    gate, measured = Gate(PROFILE), np.array([-1.8, 0.0, 0.0, 0.0, 0.0, 0.5])
    for tick in range(0, 40, 2):
        wish = measured.copy()
        wish[0] = -1.8 + PROFILE.joints[0].velocity * 0.02 * (tick + 1)
        goal, why = gate.judge(command(*wish), measured, 0.98 * 0.02 * (tick + 1 + (tick % 4 == 0)))
        assert why == "" and goal is not None
        measured = goal


def test_after_silence_it_starts_from_where_the_arm_is() -> None:
    gate = Gate(PROFILE)
    assert gate.judge(command(0.3, 0.0, 0.0, -1.7, 0.0, 0.5), MEASURED, 0.0)[1] == ""
    assert not gate.quiet(0.05) and gate.quiet(0.2)
    moved = MEASURED + np.array([-0.3, 0, 0, 0, 0, 0])  # somebody moved it
    assert gate.judge(command(-0.35, 0.0, 0.0, -1.7, 0.0, 0.5), moved, 0.2)[1] == ""
