"""LeRobot's own driver of the SO-101 on its own motor bus, which talks to emulated servos over a serial line."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("lerobot", reason="needs the train extra: pip install 'vla-rl[train]'")
pytest.importorskip("scservo_sdk", reason="needs the so101 extra: pip install 'vla-rl[so101]'")

from lerobot.robots import so_follower

from robot.lerobot_hardware import Hardware, HardwareError
from robot.profile import RobotProfile, load_profile
from tests.repo.imports import ROOT
from tests.robot.servos import GOAL, MAX_LIMIT, NAMES, TICKS, TORQUE, Servos, write_calibration

ROBOTS = ROOT / "configs" / "robots"
SO101 = load_profile(ROBOTS / "so101.yaml")
RAD_TICKS = (TICKS - 1) / (2 * math.pi)
"""Of LeRobot's degrees: 4095 ticks are 360°."""


@pytest.fixture
def servos() -> Iterator[Servos]:
    servos = Servos()
    yield servos
    servos.close()


@pytest.fixture(autouse=True)
def calibrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where LeRobot looks for calibrations; its constant is made at import."""
    import lerobot.robots.robot as base

    path = write_calibration(tmp_path)
    monkeypatch.setattr(base, "HF_LEROBOT_CALIBRATION", tmp_path / "calibration")
    return path


@pytest.fixture
def arm(servos: Servos) -> Iterator[Hardware]:
    arm = Hardware(SO101, servos.port, "arm")
    arm.connect()
    yield arm
    arm.close(limp=True)


def test_units_and_order_are_the_profiles(servos: Servos, arm: Hardware) -> None:
    np.testing.assert_allclose(arm.read().position, [0, 0, 0, 0, 0, 0.5], atol=1e-6)
    assert all(servo.torque for servo in servos.servos.values())

    arm.write(np.array([0.5, -0.4, 0.3, -0.2, 0.1, 0.75]))
    time.sleep(0.3)
    goals = [servos[name].goal - TICKS // 2 for name in NAMES]
    # LeRobot cuts ticks off: at most one below
    np.testing.assert_allclose(goals, [0.5 * RAD_TICKS, -0.4 * RAD_TICKS, 0.3 * RAD_TICKS, -0.2 * RAD_TICKS, 0.1 * RAD_TICKS, 512], atol=1)
    np.testing.assert_allclose(arm.read().position, [0.5, -0.4, 0.3, -0.2, 0.1, 0.75], atol=2 / RAD_TICKS)


@pytest.mark.parametrize(("limp", "told"), [(False, "torque is on"), (True, "torque is off")])
def test_at_the_end_motors_hold_or_go_limp(servos: Servos, arm: Hardware, limp: bool, told: str) -> None:
    assert arm.close(limp) == told
    assert {servo.torque for servo in servos.servos.values()} == {not limp}


def test_torque_goes_off_motor_by_motor_and_what_is_not_known_is_said(servos: Servos, arm: Hardware) -> None:
    servos["shoulder_lift"].error = 0x20
    assert arm.close(limp=True) == "torque is off of shoulder_pan elbow_flex wrist_flex wrist_roll gripper, unknown of shoulder_lift"
    assert not any(servo.torque for servo in servos.servos.values())


def test_a_line_that_went_dead_says_nothing_about_torque(servos: Servos, arm: Hardware) -> None:
    servos.silent = True
    assert arm.close(limp=True) == "torque is unknown"


def test_motors_stay_where_they_are_when_torque_comes_on(servos: Servos) -> None:
    """Somebody moved the arm since its motors were last told where to go."""
    for servo in servos.servos.values():
        servo.put(GOAL, TICKS // 2 + 600, 2)
    arm = Hardware(SO101, servos.port, "arm")
    arm.connect()
    time.sleep(0.3)
    assert all(servo.torque and abs(servo.position - TICKS // 2) < 1 for servo in servos.servos.values())
    arm.close(limp=True)


def test_a_reply_that_is_lost_is_one_missing_measurement(servos: Servos, arm: Hardware) -> None:
    servos["elbow_flex"].deaf = 1
    began_s = time.perf_counter()
    with pytest.raises(HardwareError, match="the so101 does not answer"):
        arm.read()
    assert time.perf_counter() - began_s < SO101.ages.state_s, "the next one comes in time"
    assert arm.read().read_s > began_s


def test_a_robot_that_was_never_calibrated_is_refused(servos: Servos) -> None:
    with pytest.raises(
        HardwareError, match=r"never calibrated.*lerobot-calibrate --robot.type=so101_follower --robot.port=\S+ --robot.id=b"
    ):
        Hardware(SO101, servos.port, "b")


def test_another_robots_calibration_is_refused_and_leaves_it_limp(servos: Servos) -> None:
    servos["elbow_flex"].put(MAX_LIMIT, 3000, 2)
    arm = Hardware(SO101, servos.port, "arm")
    energised = []
    arm._robot.configure = lambda: energised.append(True)
    with pytest.raises(HardwareError, match=r"motors hold another calibration .*\(torque is off\)"):
        arm.connect()
    assert not energised
    assert not any(servo.torque for servo in servos.servos.values())


def test_a_line_without_a_robot_is_named(servos: Servos, tmp_path: Path) -> None:
    servos.silent = True
    with pytest.raises(HardwareError, match="Missing motor IDs"):
        Hardware(SO101, servos.port, "arm").connect()
    with pytest.raises(HardwareError, match=r"could not connect to the so101[\s\S]*Could not connect on port[\s\S]*torque is unknown"):
        Hardware(SO101, str(tmp_path / "none"), "arm").connect()


def _driver(**changes: object) -> RobotProfile:
    assert SO101.driver is not None
    return SO101.model_copy(update={"driver": SO101.driver.model_copy(update=changes)})


def _renamed() -> RobotProfile:
    first = SO101.joints[0].model_copy(update={"name": "base"})
    return SO101.model_copy(update={"joints": (first, *SO101.joints[1:])})


@pytest.mark.parametrize(
    ("profile", "says"),
    [
        (load_profile(ROBOTS / "arm7.yaml"), "the profile of arm7 names no driver"),
        (_driver(module="lerobot.robots.none"), "cannot make a so101_follower of lerobot.robots.none"),
        (_driver(type="so900"), "choice class for 'so900'"),
        (_driver(settings={"use_radians": True}), "fields `use_radians` are not valid"),
        (_driver(settings={"use_degrees": False}), "gives shoulder_pan in mode RANGE_M100_100, its wire unit is deg"),
        (_renamed(), r"the profile has base that it lacks, and lacks shoulder_pan of it"),
    ],
)
def test_a_profile_that_does_not_fit_the_driver_is_refused(servos: Servos, profile: RobotProfile, says: str) -> None:
    with pytest.raises(HardwareError, match=says):
        Hardware(profile, servos.port, "arm")


def test_a_driver_without_its_port_is_refused() -> None:
    with pytest.raises(HardwareError, match="Missing required field"):
        Hardware(SO101, None, "arm")


class Camera:
    """What `Hardware` uses of LeRobot's cameras."""

    def __init__(self) -> None:
        self.latest_timestamp: float | None = None
        self.color_mode = SimpleNamespace(value="rgb")
        self.is_connected = False
        self.broken = ""

    def connect(self) -> None:
        if self.broken:
            raise ConnectionError(self.broken)
        self.is_connected = True

    def disconnect(self) -> None:
        self.is_connected = False

    def read_latest(self) -> np.ndarray:
        if self.broken:
            raise TimeoutError(self.broken)
        return np.full((4, 6, 3), 7, np.uint8)


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> Camera:
    """What LeRobot makes of any camera's configuration."""
    camera = Camera()
    monkeypatch.setattr(so_follower.so_follower, "make_cameras_from_configs", lambda configs: dict.fromkeys(configs, camera))
    return camera


FRONT = {"front": {"type": "opencv", "index_or_path": 0, "width": 6, "height": 4, "fps": 30}}


@pytest.fixture
def seeing(servos: Servos, camera: Camera) -> Iterator[Hardware]:
    arm = Hardware(SO101, servos.port, "arm", FRONT)
    arm.connect()
    yield arm
    arm.close(limp=True)


def test_an_image_comes_once_with_its_time(seeing: Hardware, camera: Camera) -> None:
    assert camera.is_connected and not seeing.images(), "before the first one"
    camera.latest_timestamp = 5.0
    image, taken_s = seeing.images()["front"]
    assert image.shape == (4, 6, 3) and taken_s == 5.0
    assert not seeing.images(), "it was told already"
    camera.latest_timestamp = 6.0
    assert seeing.images()["front"][1] == 6.0


def test_an_image_that_changes_while_it_is_read_waits(seeing: Hardware, camera: Camera, monkeypatch: pytest.MonkeyPatch) -> None:
    camera.latest_timestamp = 1.0

    def replaced() -> np.ndarray:
        camera.latest_timestamp = 2.0
        return np.zeros((4, 6, 3), np.uint8)

    monkeypatch.setattr(camera, "read_latest", replaced)
    assert not seeing.images()
    assert seeing.images()["front"][1] == 2.0


def test_a_camera_that_dies_takes_neither_measurements_nor_commands_away(seeing: Hardware, camera: Camera, servos: Servos) -> None:
    camera.broken, camera.is_connected = "latest frame is too old", False
    assert not seeing.images() and seeing.camera_problems == {"front": "latest frame is too old"}
    seeing.write(seeing.read().position + 0.1)
    time.sleep(0.1)
    assert servos["shoulder_pan"].position > TICKS // 2
    assert seeing.close(limp=True) == "torque is off"


def test_a_camera_that_is_not_there_leaves_the_arm_limp(servos: Servos, camera: Camera) -> None:
    camera.broken = "no such device"
    for servo in servos.servos.values():
        servo.put(TORQUE, 1)  # an earlier driver left it holding
    with pytest.raises(HardwareError, match=r"no such device \(torque is off\)"):
        Hardware(SO101, servos.port, "arm", FRONT).connect()
    assert not any(servo.torque for servo in servos.servos.values())


def test_cameras_that_cannot_be_passed_on_are_refused(servos: Servos, camera: Camera) -> None:
    with pytest.raises(HardwareError, match="no topic for camera side; it has front, wrist"):
        Hardware(SO101, servos.port, "arm", {"side": FRONT["front"]})
    camera.color_mode.value = "bgr"
    with pytest.raises(HardwareError, match="'front' gives bgr images"):
        Hardware(SO101, servos.port, "arm", FRONT)
    del camera.latest_timestamp
    with pytest.raises(HardwareError, match="'front' does not tell when"):
        Hardware(SO101, servos.port, "arm", FRONT)
