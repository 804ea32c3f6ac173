"""`python -m robot.ros2 PROFILE [--activate ...]`: the bridge as a process."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from policies.interface import UserError
from robot.chunks import Blend

if TYPE_CHECKING:
    from robot.ros2.bridge import Bridge

START_S = 60.0
"""How long `--activate` waits for a robot that is being started too, until its joint states come in and it stands."""
POLL_S = 0.1


def run_bridge(
    profile: Annotated[Path, tyro.conf.Positional],
    activate: bool = False,
    lockstep: bool = False,
    deadman: bool = True,
    speed: float | None = None,
    cameras: tuple[str, ...] = (),
    blend: Blend = "replace",
    teleop: bool = False,
) -> int:
    """The bridge between a robot on ROS 2 and whoever commands it, until SIGINT, SIGTERM or SIGHUP. Not a safety function.

    Args:
        profile: the robot's profile, such as configs/robots/arm7.yaml.
        activate: configure and activate at once, which holds the robot where it is; arming stays a service call.
        lockstep: one command per tick of a simulator that publishes /clock and waits.
        deadman: motion needs the dead-man switch.
        speed: share of the joint velocity limits, 0 to 1; the profile's speed_cap if not given.
        cameras: cameras of the profile that the policy depends on; they must be fresh while it commands.
        blend: how a new chunk takes over from the last one.
        teleop: who teleoperates commands, not a policy, until ~/teleop says otherwise.
    """
    import rclpy

    from robot.profile import load_profile
    from robot.ros2.bridge import Bridge
    from robot.ros2.comms import CommsThread, make_executor
    from robot.ros2.deployment import BridgeSettings
    from robot.ros2.graph import join
    from robot.ros2.realtime import keep_loaded, run_first

    settings = BridgeSettings(lockstep, deadman, speed, cameras, blend, teleop)
    robot = load_profile(profile)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    problem = run_first()
    join()
    bridge = Bridge(robot, settings)
    if problem:
        bridge.get_logger().warning(problem)
    keep_loaded()
    comms = CommsThread(bridge, make_executor(bridge.context), bridge.failed)
    comms.start()
    try:
        if activate and not activate_once_it_stands(bridge, stop):
            return 1
        stop.wait()
        return 0
    finally:
        bridge.halt()
        comms.stop()
        bridge.destroy_node()
        rclpy.shutdown()


def activate_once_it_stands(bridge: Bridge, stop: threading.Event) -> bool:
    """Configure, wait for joint states of a robot that stands, activate. The node's log says what it waits for, and why not."""
    from rclpy.lifecycle import TransitionCallbackReturn

    until = time.monotonic() + START_S
    while bridge.trigger_configure() is not TransitionCallbackReturn.SUCCESS:
        if not bridge.waiting or stop.is_set() or time.monotonic() > until:
            return False
    while time.monotonic() < until and not stop.is_set():
        if bridge.ready and bridge.trigger_activate() is TransitionCallbackReturn.SUCCESS:
            return True
        stop.wait(POLL_S)
    return bridge.trigger_activate() is TransitionCallbackReturn.SUCCESS


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 stopped when asked to, 1 could not activate, 2 bad input."""
    try:
        return tyro.cli(run_bridge, args=argv, prog="python -m robot.ros2")
    except (UserError, ImportError) as error:
        print(f"bridge: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
