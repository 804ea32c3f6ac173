"""A robot on one of LeRobot's motor buses, in the order and the units of its profile. Knows no ROS; LeRobot is imported when it is made.

The bus's own units are degrees, or percent of a joint's calibrated range; the profile's `wire` entries say how they relate to ours.

J commanded coordinates of the profile
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from policies.interface import UserError
from robot.profile import Driver, RobotProfile

CAMERAS = ("opencv", "realsense", "zmq")
"""Packages of `lerobot.cameras`; a camera's type is known once its package is imported."""
WIRE_UNITS = {"DEGREES": "deg", "RANGE_0_100": "percent"}
"""By LeRobot's `MotorNormMode`. In its third mode a number means what the calibration file says: refused."""


class HardwareError(UserError):
    """A robot cannot be driven by LeRobot as it was asked for, or does not answer."""


@dataclass(frozen=True)
class Measured:
    """One answer of the motors."""

    position: np.ndarray
    """`(J,)` in the profile's units."""
    read_s: float
    """When it was asked for, `time.perf_counter`."""


class Hardware:
    """One robot. Not thread-safe, as LeRobot's buses are not: one thread calls it."""

    def __init__(
        self, profile: RobotProfile, port: str | None = None, identity: str | None = None, cameras: Mapping[str, Any] | None = None
    ) -> None:
        """Configure the driver and check all that needs no robot; nothing is connected yet.

        Args:
            profile: the robot's, with a `driver`.
            port: the serial port, where the robot has one.
            identity: LeRobot's id of this very robot, which names its calibration file.
            cameras: by name, in LeRobot's own terms, such as
                `{"front": {"type": "opencv", "index_or_path": 0, "width": 640, "height": 480, "fps": 30}}`.

        Raises:
            HardwareError: the profile names no driver, LeRobot lacks it or does not take the settings, its joints, units or cameras are
                not those of the profile, or the robot was never calibrated.
        """
        if profile.driver is None:
            raise HardwareError(f"the profile of {profile.name} names no driver: that robot is on ROS 2 by itself, and needs none")
        self._profile = profile
        self._robot = _make(profile.driver, {"port": port, "id": identity, "cameras": dict(cameras or {})})
        if not hasattr(self._robot, "bus"):
            raise HardwareError(f"LeRobot's {profile.driver.type} has no motor bus; robots like the SO-101, Koch and OMX have one")
        self._bus = self._robot.bus
        self.cameras: tuple[str, ...] = tuple(self._robot.cameras)
        self.camera_problems: dict[str, str] = {}
        """By camera, why `images` has none of it now."""
        self._taken_s: dict[str, float] = {}
        _require_motors(profile, self._bus.motors)
        _require_cameras(profile, self._robot.cameras)
        if not self._robot.calibration:
            raise HardwareError(
                f"this {profile.driver.type} was never calibrated: there is no {self._robot.calibration_fpath}; run "
                f"`lerobot-calibrate --robot.type={profile.driver.type} --robot.port={port} --robot.id={identity}`"
            )

    def connect(self) -> None:
        """Open bus and cameras, make every motor's goal where it is, and only then switch torque on.

        Raises:
            HardwareError: robot or camera does not answer, or the motors hold another calibration than the file. Torque is off then, as
                far as motors can be reached: the sentence says so.
        """
        try:
            self._bus.connect()
            if not self._robot.is_calibrated:
                raise HardwareError(
                    f"the motors hold another calibration than {self._robot.calibration_fpath}: this is another robot, or it was "
                    "calibrated elsewhere; run `lerobot-calibrate` for it"
                )
            for camera in self._robot.cameras.values():
                camera.connect()
            self._stay()
            self._robot.configure()
        except Exception as error:  # LeRobot, the motors' and the cameras' libraries raise errors of all kinds
            state = self.close(limp=True)
            raise HardwareError(f"could not connect to the {self._profile.name}: {str(error).strip() or repr(error)} ({state})") from error

    def read(self) -> Measured:
        """Where the joints are, asked for once. Raises `HardwareError` if a motor does not answer."""
        read_s = time.perf_counter()
        seen = self._on_bus(lambda: self._bus.sync_read("Present_Position", num_retry=0))
        wire = np.array([float(seen[name]) for name in self._profile.names])
        return Measured(self._profile.from_wire(wire), read_s)

    def write(self, position: np.ndarray) -> None:
        """Motors go to `(J,)` and hold it. Raises `HardwareError` if the bus is gone; motors do not confirm it."""
        goals = dict(zip(self._profile.names, self._profile.to_wire(position).tolist(), strict=True))
        self._on_bus(lambda: self._bus.sync_write("Goal_Position", goals))

    def images(self) -> dict[str, tuple[np.ndarray, float]]:
        """New images `(H, W, 3)` uint8 RGB by camera, each with the time at which LeRobot had it, `time.perf_counter`.

        That is after exposure, transport and decoding. A camera that gives none is in `camera_problems`.
        """
        found = {}
        for name, camera in self._robot.cameras.items():
            stamp_s = camera.latest_timestamp
            try:
                image = camera.read_latest()
            except Exception as error:  # as above
                self.camera_problems[name] = str(error) or repr(error)
                continue
            self.camera_problems.pop(name, None)
            # One whose stamp changed meanwhile is one of two, nobody knows which; it comes with the next call.
            if stamp_s is not None and stamp_s == camera.latest_timestamp and stamp_s > self._taken_s.get(name, -np.inf):
                self._taken_s[name] = stamp_s
                found[name] = image, stamp_s
        return found

    def close(self, limp: bool) -> str:
        """Leave bus and cameras; never raises. Returns what motors say about their torque, in words.

        Args:
            limp: switch torque off, motor by motor; otherwise they hold.
        """
        torque: dict[str, list[str]] = {"on": [], "off": [], "unknown": []}
        for name in self._bus.motors:
            if limp:
                with suppress(Exception):
                    self._bus.disable_torque(name, num_retry=2)
            state = "unknown"
            with suppress(Exception):
                state = "on" if self._bus.read("Torque_Enable", name, normalize=False, num_retry=2) else "off"
            torque[state].append(name)
        with suppress(Exception):
            self._bus.disconnect(disable_torque=False)
        for camera in self._robot.cameras.values():
            with suppress(Exception):
                camera.disconnect()
        known = [(state, names) for state, names in torque.items() if names]
        if len(known) == 1:
            return f"torque is {known[0][0]}"
        return "torque is " + ", ".join(f"{state} of {' '.join(names)}" for state, names in known)

    def _stay(self) -> None:
        """Motors go to what they hold as goal once torque is on: let that be where they are. Raises `HardwareError` if it is not."""
        there = self._bus.sync_read("Present_Position", normalize=False, num_retry=2)
        for name, ticks in there.items():
            self._bus.write("Goal_Position", name, ticks, normalize=False, num_retry=2)
        goals = self._bus.sync_read("Goal_Position", normalize=False, num_retry=2)
        if wrong := [name for name, ticks in there.items() if goals[name] != ticks]:
            raise HardwareError(f"{', '.join(wrong)} would move when torque comes on: the goal is not where the motor is")

    def _on_bus[Answer](self, call: Callable[[], Answer]) -> Answer:
        try:
            return call()
        except Exception as error:  # as above
            raise HardwareError(f"the {self._profile.name} does not answer: {str(error).strip() or repr(error)}") from error


def _make(driver: Driver, options: Mapping[str, Any]) -> Any:
    """LeRobot's robot, configured as its own programs do it."""
    try:
        import draccus
        from lerobot.robots import RobotConfig, make_robot_from_config
    except ImportError as error:
        raise HardwareError(f"a robot behind LeRobot's driver needs LeRobot ({error}): pip install 'vla-rl[train,ros,so101]'") from error
    for package in CAMERAS if options["cameras"] else ():
        with suppress(ImportError):
            import_module(f"lerobot.cameras.{package}")
    given = {name: value for name, value in options.items() if value not in (None, {})}
    try:
        import_module(driver.module)
        return make_robot_from_config(draccus.decode(RobotConfig, {"type": driver.type, **driver.settings, **given}))
    except (ImportError, ValueError, TypeError, draccus.ParsingError) as error:
        why = f"{error}{f': {error.__cause__}' if error.__cause__ else ''}"
        raise HardwareError(f"LeRobot cannot make a {driver.type} of {driver.module} from {given}: {why}") from error


def _require_motors(profile: RobotProfile, motors: Mapping[str, Any]) -> None:
    """Raise `HardwareError` unless the bus has the profile's joints, in the units that their `wire` entries say."""
    lacks, more = sorted(set(profile.names) - set(motors)), sorted(set(motors) - set(profile.names))
    if lacks or more:
        raise HardwareError(
            f"LeRobot's {profile.name} has motors {', '.join(motors)}; the profile has {', '.join(lacks) or 'nothing'} that it lacks, "
            f"and lacks {', '.join(more) or 'nothing'} of it"
        )
    for joint in profile.joints:
        mode, unit = motors[joint.name].norm_mode.name, joint.wire.unit if joint.wire else joint.unit
        if WIRE_UNITS.get(mode) != unit:
            raise HardwareError(
                f"LeRobot gives {joint.name} in mode {mode}, its wire unit is {unit}; set driver.settings or wire accordingly"
            )


def _require_cameras(profile: RobotProfile, cameras: Mapping[str, Any]) -> None:
    """Raise `HardwareError` for a camera without a topic, without the time of its images, or whose images are not RGB."""
    if unknown := sorted(set(cameras) - set(profile.topics.images)):
        known = ", ".join(profile.topics.images) or "none"
        raise HardwareError(f"the profile of {profile.name} has no topic for camera {', '.join(unknown)}; it has {known}")
    for name, camera in cameras.items():
        if not hasattr(camera, "latest_timestamp"):
            raise HardwareError(f"camera '{name}' does not tell when an image was taken; images without a time are not passed on")
        if (colours := getattr(getattr(camera, "color_mode", None), "value", "rgb")) != "rgb":
            raise HardwareError(f"camera '{name}' gives {colours} images; set its color_mode to rgb")
