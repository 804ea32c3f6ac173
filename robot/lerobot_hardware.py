"""A robot behind LeRobot's own driver, in the order and the units of its profile. Knows no ROS; LeRobot is imported when it is made.

LeRobot names a joint's position `<joint>.pos`, in units of its driver; the profile's `wire` entries say how they relate to ours.

J commanded coordinates of the profile
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from policies.interface import UserError
from robot.profile import Driver, RobotProfile

CAMERAS = ("opencv", "realsense", "zmq", "reachy2_camera")
"""Packages of `lerobot.cameras`; a camera's type is known once its package is imported."""


class HardwareError(UserError):
    """A robot cannot be driven by LeRobot as it was asked for."""


@dataclass(frozen=True)
class Measured:
    """One answer of the driver."""

    position: np.ndarray
    """`(J,)` in the profile's units."""
    read_s: float
    """When it was asked for, `time.perf_counter`."""
    images: Mapping[str, tuple[np.ndarray, float]]
    """By camera, those that are new since the last answer: `(H, W, 3)` uint8 RGB, and when it was taken, `time.perf_counter`."""


class Hardware:
    """One robot. Not thread-safe, as LeRobot's drivers are not: one thread calls it."""

    def __init__(
        self, profile: RobotProfile, port: str | None = None, identity: str | None = None, cameras: Mapping[str, Any] | None = None
    ) -> None:
        """Configure the driver; nothing is connected yet.

        Args:
            profile: the robot's, with a `driver`.
            port: the serial port, where the robot has one.
            identity: LeRobot's id of this very robot, which names its calibration file.
            cameras: by name, in LeRobot's own terms, such as `{"front": {"type": "opencv", "index_or_path": 0}}`.

        Raises:
            HardwareError: the profile names no driver, LeRobot lacks it or does not take the settings, its joints are not those of the
                profile, or the robot was never calibrated.
        """
        if profile.driver is None:
            raise HardwareError(f"the profile of {profile.name} names no driver: that robot is on ROS 2 by itself, and needs none")
        self._profile = profile
        self._robot = _make(profile.driver, {"port": port, "id": identity, "cameras": dict(cameras or {})})
        self.cameras = tuple(self._robot.cameras)
        self._taken_s: dict[str, float] = {}
        _require_joints(profile, set(self._robot.action_features))
        if not self._robot.calibration and hasattr(self._robot, "bus"):
            raise HardwareError(
                f"this {profile.driver.type} was never calibrated: there is no {self._robot.calibration_fpath}; run "
                f"`lerobot-calibrate --robot.type={profile.driver.type} --robot.port={port} --robot.id={identity}`"
            )

    def connect(self) -> None:
        """Open the bus and the cameras, and switch torque on.

        Raises:
            HardwareError: the robot does not answer, or its motors hold another calibration than the file; torque is off then.
        """
        try:
            self._robot.connect(calibrate=False)
            calibrated = self._robot.is_calibrated
        except (RuntimeError, OSError) as error:
            self.close(limp=True)
            raise HardwareError(f"LeRobot could not connect to the {self._profile.name}: {str(error).strip()}") from error
        if not calibrated:
            self.close(limp=True)
            raise HardwareError(
                f"the motors hold another calibration than {self._robot.calibration_fpath}: this is another robot, or it was calibrated "
                "elsewhere; run `lerobot-calibrate` for it"
            )
        for name in self.cameras:
            if not hasattr(self._robot.cameras[name], "latest_timestamp"):
                self.close(limp=True)
                raise HardwareError(f"camera '{name}' does not tell when an image was taken; images without a time are not passed on")

    def read(self) -> Measured:
        """Where the joints are, and what is new from the cameras. Raises `OSError` or `RuntimeError` if motors or cameras do not answer."""
        before = self._stamps()
        read_s = time.perf_counter()
        seen = self._robot.get_observation()
        # An image whose stamp changed meanwhile is one of two, nobody knows which; it comes with the next answer.
        new = {
            name: (seen[name], stamp)
            for name, stamp in before.items()
            if stamp == self._stamps().get(name) and stamp > self._taken_s.get(name, -np.inf)
        }
        self._taken_s |= {name: stamp for name, (_, stamp) in new.items()}
        wire = np.array([float(seen[f"{name}.pos"]) for name in self._profile.names])
        return Measured(self._profile.from_wire(wire), read_s, new)

    def write(self, position: np.ndarray) -> None:
        """Servos go to `(J,)` and hold it. Raises `OSError` or `RuntimeError` if the bus does not answer."""
        wire = self._profile.to_wire(position)
        self._robot.send_action({f"{name}.pos": float(value) for name, value in zip(self._profile.names, wire, strict=True)})

    def close(self, limp: bool) -> None:
        """Leave bus and cameras. Never raises: the bus may be gone.

        Args:
            limp: switch torque off, where the driver lets one choose; otherwise the servos hold.
        """
        if hasattr(self._robot.config, "disable_torque_on_disconnect"):
            self._robot.config.disable_torque_on_disconnect = limp
        with suppress(Exception):  # also serial ports' own errors, which are no OSError
            self._robot.disconnect()

    def _stamps(self) -> dict[str, float]:
        stamps = {name: getattr(self._robot.cameras[name], "latest_timestamp", None) for name in self.cameras}
        return {name: stamp for name, stamp in stamps.items() if stamp is not None}


def _make(driver: Driver, options: Mapping[str, Any]) -> Any:
    """LeRobot's robot, configured as its own programs do it."""
    try:
        import draccus
        from lerobot.robots import RobotConfig, make_robot_from_config
    except ImportError as error:
        raise HardwareError(f"a robot behind LeRobot's driver needs LeRobot ({error}): pip install 'vla-rl[train,so101]'") from error
    for package in CAMERAS if options["cameras"] else ():
        with suppress(ImportError):
            import_module(f"lerobot.cameras.{package}")
    given = {name: value for name, value in options.items() if value not in (None, {})}
    try:
        import_module(driver.module)
        return make_robot_from_config(draccus.decode(RobotConfig, {"type": driver.type, **driver.settings, **given}))
    except (ImportError, ValueError, TypeError, draccus.ParsingError) as error:
        raise HardwareError(f"LeRobot cannot make a {driver.type} of {driver.module} from {given}: {error}") from error


def _require_joints(profile: RobotProfile, features: set[str]) -> None:
    wanted = {f"{name}.pos" for name in profile.names}
    if features != wanted:
        lacks, more = sorted(wanted - features), sorted(features - wanted)
        raise HardwareError(
            f"LeRobot's {profile.name} takes {', '.join(sorted(features))}; the profile has {', '.join(lacks) or 'nothing'} that it lacks, "
            f"and lacks {', '.join(more) or 'nothing'} of it"
        )
