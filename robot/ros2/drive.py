"""`vla-rl drive PROFILE --port PORT --id ID`: a robot of LeRobot's, such as the SO-101, on ROS 2, where the bridge finds it."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
import yaml

from policies.interface import UserError

if TYPE_CHECKING:
    from robot.ros2.driver import LeRobotDriver


def drive(
    profile: Annotated[Path, tyro.conf.Positional],
    port: str | None = None,
    id: str | None = None,  # LeRobot's name for it
    cameras: str = "{}",
    limp: bool = False,
) -> int:
    """A robot on LeRobot's motor bus as a participant of ROS 2, until SIGINT, SIGTERM or SIGHUP. Not a safety function.

    Torque comes on, with every motor told to stay where it is: keep clear all the same. The robot moves once a bridge commands it.

    Args:
        profile: the robot's profile, such as configs/robots/so101.yaml.
        port: the serial port, such as /dev/ttyACM0; `lerobot-find-port` tells.
        id: the id that the robot was calibrated under with `lerobot-calibrate`.
        cameras: by name, as LeRobot's programs take them: "{front: {type: opencv, index_or_path: 0, width: 640, height: 480, fps: 30}}".
        limp: at the end, switch torque off; the arm falls. Otherwise motors hold it, until power or a motor's own protection ends that.
    """
    from robot.lerobot_hardware import Hardware
    from robot.profile import load_profile
    from robot.ros2.comms import spinning
    from robot.ros2.driver import LeRobotDriver

    robot, stop, failures = load_profile(profile), threading.Event(), list[Exception]()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    hardware = Hardware(robot, port, id, _cameras(cameras))
    if stop.is_set():
        return 0

    def failed(error: Exception) -> None:
        failures.append(error)
        stop.set()

    hardware.connect()
    limp = limp or stop.is_set()  # whoever stops it by then wants no torque
    try:
        with spinning("driver", lambda node: LeRobotDriver(node, hardware, robot), failed, robot.name) as driver:
            print(f"{robot.name}: on ROS 2 at {robot.rates.state_hz:g} Hz", flush=True)
            _loop(driver, 1 / robot.rates.state_hz, stop)
    finally:
        print(f"{robot.name}: {hardware.close(limp)}", flush=True)
    if failures:
        raise failures[0]
    return 0


def _loop(driver: LeRobotDriver, period_s: float, stop: threading.Event) -> None:
    """Steps at a rate; a late one moves those after it, none is made up for."""
    next_s = time.monotonic()
    while not stop.wait(max(0.0, next_s - time.monotonic())):
        driver.step()
        next_s = max(next_s + period_s, time.monotonic())


def _cameras(text: str) -> dict[str, Any]:
    try:
        cameras = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"--cameras is not YAML: {error}") from None
    if not isinstance(cameras, dict):
        raise UserError(f"--cameras must be a mapping of names to settings, got {text}")
    return cameras


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 stopped when asked to, 2 bad input or a robot that does not answer."""
    try:
        return tyro.cli(drive, args=argv, prog="vla-rl drive")
    except (UserError, ImportError) as error:
        print(f"drive: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
