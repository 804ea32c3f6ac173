"""Unitree's low-level control: the checksum against one by the book, the layout against C's, and a bridge over the real messages."""

from __future__ import annotations

import ctypes
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

pytest.importorskip("rclpy", reason="needs the ros extra: pip install 'vla-rl[ros]'")

from std_msgs.msg import Bool, String

from robot.profile import RobotProfile, load_profile
from robot.ros2.build_messages import main
from robot.ros2.low_level import COMMAND, LowLevel, LowLevelError, checksum
from robot.ros2.wiring import state_reader
from tests.robot.relaxed import AGES, RATES, SAFETY
from tests.robot.unitree import built
from tests.ros import LATCHED, ROOT, Graph, Process, unique_domain

pytestmark = pytest.mark.ros
MACHINE = 5
"""Mode of the machine that the robot states."""


def by_the_book(words: bytes) -> int:
    """Polynomial division, bit by bit."""
    rest = 0xFFFFFFFF
    for word in np.frombuffer(words, "<u4").tolist():
        for bit in range(31, -1, -1):
            rest = (rest << 1) ^ (0x04C11DB7 if rest >> 31 else 0)
            rest = (rest ^ (0x04C11DB7 if word >> bit & 1 else 0)) & 0xFFFFFFFF
    return rest


def test_the_checksum() -> None:
    random = np.random.default_rng(0).bytes(1000)
    assert by_the_book(random) == checksum(random)
    assert checksum(bytes(4)) == by_the_book(bytes(4)) == 0xC704DD7B, "published for four bytes of zero"


class Motor(ctypes.Structure):
    _fields_ = (
        ("mode", ctypes.c_uint8),
        *((name, ctypes.c_float) for name in ("q", "dq", "tau", "kp", "kd")),
        ("reserve", ctypes.c_uint32),
    )


class Command(ctypes.Structure):
    _fields_ = (
        ("mode_pr", ctypes.c_uint8),
        ("mode_machine", ctypes.c_uint8),
        ("motor_cmd", Motor * 35),
        ("reserve", ctypes.c_uint32 * 4),
        ("crc", ctypes.c_uint32),
    )


def test_the_layout_is_cs() -> None:
    """The robot computes the checksum over the structure in its memory."""
    numbers = list(range(1, 1 + 2 + 7 * 35 + 4))
    command = Command(numbers[0], numbers[1], reserve=(ctypes.c_uint32 * 4)(*numbers[-4:]))
    for i, motor in enumerate(command.motor_cmd):
        values = numbers[2 + 7 * i : 9 + 7 * i]
        for (name, _), value in zip(Motor._fields_, [values[0] % 256, *values[1:]], strict=True):
            setattr(motor, name, value)
    motors = [value % 256 if i % 7 == 0 else value for i, value in enumerate(numbers[2:-4])]
    assert ctypes.sizeof(Command) == 1004
    assert COMMAND.pack(1, 2, *motors, *numbers[-4:]) == bytes(command)[:1000]


@pytest.fixture(scope="module")
def messages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The vendor's messages, built as a user without a ROS installation builds them, and on the path."""
    if shutil.which("g++") is None:
        pytest.skip("needs a C++ compiler")
    folder = built(tmp_path_factory.mktemp("messages"))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder
    for name in [name for name in sys.modules if name.split(".")[0] == "unitree_hg"]:
        del sys.modules[name]


@pytest.fixture
def profile(tmp_path: Path) -> RobotProfile:
    text = yaml.safe_load((ROOT / "configs" / "robots" / "g1.yaml").read_text())
    text |= {"rates": RATES, "ages": AGES, "safety": text["safety"] | SAFETY | {"stop_mode": "damping"}}
    (tmp_path / "profile.yaml").write_text(yaml.safe_dump(text))
    return load_profile(tmp_path / "profile.yaml")


class Robot:
    """The maker's side: it publishes states and follows commands whose checksum is right."""

    def __init__(self, graph: Graph, profile: RobotProfile) -> None:
        from unitree_hg.msg import LowCmd, LowState

        self.position, self.commands, self.refused = profile.home + 0.01, list[Any](), 0
        self._state = LowState(mode_machine=MACHINE)
        self._publisher = graph.node.create_publisher(LowState, "/lowstate", 1)
        graph.node.create_subscription(LowCmd, "/lowcmd", self._obey, 1)
        graph.node.create_timer(1 / profile.rates.state_hz, self._publish)

    def _publish(self) -> None:
        for motor, q in zip(self._state.motor_state, self.position, strict=False):
            motor.q = float(q)
        self._publisher.publish(self._state)

    def _obey(self, command: Any) -> None:
        self.commands.append(command)
        if command.crc != by_the_book(bytes(in_memory(command))[:1000]) or command.mode_machine != MACHINE:
            self.refused += 1
        for i in range(len(self.position)):
            if command.motor_cmd[i].mode == 1 and command.motor_cmd[i].kp > 0:
                self.position[i] += 0.5 * (command.motor_cmd[i].q - self.position[i])


def in_memory(command: Any) -> Command:
    """As C has it."""
    found = Command(command.mode_pr, command.mode_machine, reserve=(ctypes.c_uint32 * 4)(*(int(word) for word in command.reserve)))
    for motor, told in zip(found.motor_cmd, command.motor_cmd, strict=True):
        for name, _ in Motor._fields_:
            setattr(motor, name, getattr(told, name))
    return found


def gains(command: Any) -> list[tuple[float, float]]:
    return [(motor.kp, motor.kd) for motor in command.motor_cmd[:29]]


def test_a_bridge_holds_the_robot_and_damps_it_when_it_is_stopped(messages: Path, profile: RobotProfile, tmp_path: Path) -> None:
    graph = Graph(domain := unique_domain())
    robot, pressed, start = Robot(graph, profile), False, profile.home + 0.01
    estop = graph.node.create_publisher(Bool, "/g1/bridge/estop", 1)
    graph.node.create_timer(0.05, lambda: estop.publish(Bool(data=pressed)))
    status = graph.record(String, "/g1/bridge/status", LATCHED)
    bridge = Process(domain, ["-m", "robot.ros2", str(tmp_path / "profile.yaml"), "--activate"], tmp_path / "log", messages)

    def state() -> str:
        assert bridge.alive(), bridge.output()
        return json.loads(status[-1].data)["state"] if status else ""

    try:
        graph.until(lambda: state() == "standby" and len(robot.commands) > 20, "the bridge holds the robot")
        held = robot.commands[-1]
        assert gains(held) == [(joint.kp, joint.kd) for joint in profile.joints]
        np.testing.assert_allclose([motor.q for motor in held.motor_cmd[:29]], start, atol=1e-3)
        assert [motor.mode for motor in held.motor_cmd] == 29 * [1] + 6 * [0]
        assert not any((motor.dq, motor.tau) != (0.0, 0.0) for motor in held.motor_cmd)

        pressed = True
        graph.until(lambda: state() == "estop", "the bridge stops")
        damped = [(0.0, joint.damping_kd) for joint in profile.joints]
        graph.until(lambda: gains(robot.commands[-1]) == damped, "the robot is damped")
        robot.commands.clear()
        graph.until(lambda: len(robot.commands) > 20, "commands go on for a while")
        assert all(gains(command) == damped for command in robot.commands)
        assert robot.refused == 0
    finally:
        code = bridge.stop()
        graph.close()
    assert code == 0, bridge.output()


def test_a_command_waits_for_the_mode_of_the_machine(messages: Path, profile: RobotProfile) -> None:
    reader: Any = state_reader(profile)
    with pytest.raises(LowLevelError, match="no state of the robot has been read"):
        reader.encode(profile.home, np.zeros(29), damped=False)


def test_messages_of_another_robot_are_refused(messages: Path, profile: RobotProfile) -> None:
    joints = {joint.name: joint for joint in profile.joints}
    with pytest.raises(LowLevelError, match="Bool is not Unitree's of humanoids"):
        LowLevel("/lowcmd", profile.names, (Bool, Bool), joints)


def test_what_cannot_be_built_is_refused(messages: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "has no msg/*.msg" in capsys.readouterr().err
    (tmp_path / "odd" / "msg").mkdir(parents=True)
    (tmp_path / "odd" / "msg" / "Odd.msg").write_text("float33 x")
    assert main([str(tmp_path / "odd"), "--out", str(tmp_path / "out")]) == 2
    assert "the messages of odd cannot be generated" in capsys.readouterr().err
    assert main([str(tmp_path / "odd"), "--out", str(tmp_path)]) == 2
    assert "is no package that was built before" in capsys.readouterr().err
    assert (tmp_path / "odd" / "msg" / "Odd.msg").exists() and not (tmp_path / "out").exists()
