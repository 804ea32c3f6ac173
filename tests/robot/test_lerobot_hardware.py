"""LeRobot's own driver of the SO-101 on its own motor bus, which talks to emulated servos over a serial line."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
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
from tests.robot.servos import MAX_LIMIT, NAMES, TICKS, Servos, write_calibration

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
    goals = [servos[name].goal - TICKS // 2 for name in NAMES]
    # LeRobot cuts ticks off: at most one below
    np.testing.assert_allclose(goals, [0.5 * RAD_TICKS, -0.4 * RAD_TICKS, 0.3 * RAD_TICKS, -0.2 * RAD_TICKS, 0.1 * RAD_TICKS, 512], atol=1)
    time.sleep(0.3)
    np.testing.assert_allclose(arm.read().position, [0.5, -0.4, 0.3, -0.2, 0.1, 0.75], atol=2 / RAD_TICKS)


@pytest.mark.parametrize("limp", [False, True])
def test_at_the_end_servos_hold_or_go_limp(servos: Servos, arm: Hardware, limp: bool) -> None:
    arm.close(limp)
    assert {servo.torque for servo in servos.servos.values()} == {not limp}


def test_a_robot_that_was_never_calibrated_is_refused(servos: Servos) -> None:
    with pytest.raises(
        HardwareError, match=r"never calibrated.*lerobot-calibrate --robot.type=so101_follower --robot.port=\S+ --robot.id=b"
    ):
        Hardware(SO101, servos.port, "b")


def test_another_robots_calibration_is_refused_and_leaves_it_limp(servos: Servos) -> None:
    servos["elbow_flex"].put(MAX_LIMIT, 3000, 2)
    with pytest.raises(HardwareError, match="motors hold another calibration"):
        Hardware(SO101, servos.port, "arm").connect()
    assert not any(servo.torque for servo in servos.servos.values())


def test_a_line_without_a_robot_is_named(servos: Servos, tmp_path: Path) -> None:
    servos.silent = True
    with pytest.raises(HardwareError, match="Missing motor IDs"):
        Hardware(SO101, servos.port, "arm").connect()
    with pytest.raises(HardwareError, match=r"could not connect to the so101[\s\S]*Could not connect on port"):
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
        (_renamed(), r"the profile has base\.pos that it lacks, and lacks shoulder_pan\.pos of it"),
    ],
)
def test_a_profile_that_does_not_fit_the_driver_is_refused(servos: Servos, profile: RobotProfile, says: str) -> None:
    with pytest.raises(HardwareError, match=says):
        Hardware(profile, servos.port, "arm")


def test_a_driver_without_its_port_is_refused() -> None:
    with pytest.raises(HardwareError, match="Missing required field"):
        Hardware(SO101, None, "arm")


@dataclass
class _Camera:
    """What `Hardware` uses of LeRobot's cameras."""

    latest_timestamp: float | None = None
    is_connected: bool = True

    def read_latest(self) -> np.ndarray:
        return np.full((4, 6, 3), 7, np.uint8)

    def disconnect(self) -> None:
        pass


def test_an_image_comes_once_with_the_time_it_was_taken(arm: Hardware) -> None:
    camera = _Camera()
    arm._robot.cameras = {"front": camera}
    arm.cameras = ("front",)
    assert not arm.read().images, "before the first one"
    camera.latest_timestamp = 5.0
    image, taken_s = arm.read().images["front"]
    assert image.shape == (4, 6, 3) and taken_s == 5.0
    assert not arm.read().images, "it was told already"
    camera.latest_timestamp = 6.0
    assert arm.read().images["front"][1] == 6.0


def test_an_image_that_changes_while_it_is_read_waits(arm: Hardware, monkeypatch: pytest.MonkeyPatch) -> None:
    camera = _Camera(1.0)

    def replaced() -> np.ndarray:
        camera.latest_timestamp = 2.0
        return np.zeros((4, 6, 3), np.uint8)

    monkeypatch.setattr(camera, "read_latest", replaced)
    arm._robot.cameras, arm.cameras = {"front": camera}, ("front",)
    assert not arm.read().images
    assert arm.read().images["front"][1] == 2.0


def test_a_camera_without_times_is_refused(servos: Servos, monkeypatch: pytest.MonkeyPatch) -> None:
    def cameras(config: object) -> dict[str, object]:
        return {"front": SimpleNamespace(is_connected=False, connect=lambda: None, disconnect=lambda: None)}

    monkeypatch.setattr(so_follower.so_follower, "make_cameras_from_configs", cameras)
    with pytest.raises(HardwareError, match="'front' does not tell when"):
        Hardware(SO101, servos.port, "arm").connect()
