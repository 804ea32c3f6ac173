"""LeRobot's `Robot` for a robot behind our bridge, as lerobot-record, lerobot-teleoperate and lerobot-replay use it.

    observation   <joint>.pos float [unit of the profile], <camera> (H, W, 3) uint8 RGB
    action        <joint>.pos float [unit of the profile], where the joint should be

Limits, e-stop, dead-man switch and arming stay with the bridge and its operator; see `robot.ros2.lerobot_robot.follower`.
LeRobot looks for the class `Bridged` of a `BridgedConfig` in the module `bridged` beside its own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from lerobot.robots import Robot, RobotConfig
from lerobot.utils.decorators import check_if_already_connected, check_if_not_connected
from lerobot.utils.errors import DeviceNotConnectedError
from rclpy.node import Node

from policies.interface import UserError
from robot.profile import RobotProfile, load_profile
from robot.ros2.comms import spinning
from robot.ros2.lerobot_robot.follower import JOG_HZ, NAME, Follower
from robot.ros2.wiring import image_streams, state_reader

CONNECT_S = 10.0
"""How long connecting waits for bridge, joint states and images."""
DISCOVERY_S = 1.0
"""How long connecting looks for others who teleoperate: the graph tells of them some time after one joins it."""
LATE_S = 0.5
"""How long an observation waits for samples that are too old, as a process that encodes videos is held up at times."""
POLL_S = 0.005


@dataclass(frozen=True)
class View:
    """What one camera of the profile shows. Images of another size are refused, never resized."""

    height: int
    """[px]"""
    width: int
    """[px]"""


@RobotConfig.register_subclass("vla_rl")
@dataclass(kw_only=True)
class BridgedConfig(RobotConfig):
    """`--robot.type=vla_rl`. A bridge of the robot runs already, on the ROS domain of this process."""

    profile: Path
    """Such as configs/robots/arm7.yaml."""
    cameras: dict[str, View] = field(default_factory=dict)
    """By camera of the profile."""

    def __post_init__(self) -> None:
        """Instead of LeRobot's check, which is for cameras that LeRobot opens itself."""
        for name, view in self.cameras.items():
            if min(view.height, view.width) < 1:
                raise ValueError(f"camera '{name}' needs a height and width of at least 1 px, got {view.height} and {view.width}")


def joint_features(joints: Sequence[str]) -> dict[str, type]:
    """Of measured positions, and of actions."""
    return {f"{name}.pos": float for name in joints}


def to_positions(action: Mapping[str, Any], joints: Sequence[str]) -> np.ndarray:
    """`(J,)` float64 of `<joint>.pos`, in the order of `joints`.

    Raises:
        UserError: joints are missing or unknown, or a position is not finite.
    """
    wanted = list(joint_features(joints))
    if set(action) != set(wanted):
        missing, unknown = sorted(set(wanted) - set(action)), sorted(set(action) - set(wanted))
        found = [f"{what} {', '.join(names)}" for what, names in (("lacks", missing), ("has unknown", unknown)) if names]
        raise UserError(f"an action {' and '.join(found)}; the robot takes {', '.join(wanted)}")
    positions = np.array([float(action[name]) for name in wanted])
    for name, value in zip(wanted, positions, strict=True):
        if not np.isfinite(value):
            raise UserError(f"an action's {name} is {value}")
    return positions


def to_features(positions: np.ndarray, joints: Sequence[str]) -> dict[str, float]:
    """`<joint>.pos` of positions `(J,)`."""
    return {f"{name}.pos": float(value) for name, value in zip(joints, positions, strict=True)}


class Bridged(Robot):
    """A teleoperation command source of a bridge that runs already. At most one per process."""

    config_class = BridgedConfig
    name = "vla_rl"

    def __init__(self, config: BridgedConfig) -> None:
        """Read the profile; nothing is on the graph yet.

        Raises:
            UserError: the profile is wrong, is not read over ROS 2, or lacks a camera.
        """
        self._stack: ExitStack | None = None
        super().__init__(config)
        self.cameras = config.cameras
        """LeRobot counts them."""
        self._profile: RobotProfile = load_profile(config.profile)
        state_reader(self._profile)
        image_streams(self._profile, tuple(config.cameras))
        self._failures: list[Exception] = []
        self._follower: Follower | None = None

    @property
    def observation_features(self) -> dict[str, Any]:
        images = {name: (view.height, view.width, 3) for name, view in self.cameras.items()}
        return joint_features(self._profile.names) | images

    @property
    def action_features(self) -> dict[str, Any]:
        return joint_features(self._profile.names)

    @property
    def is_connected(self) -> bool:
        return self._stack is not None

    @property
    def is_calibrated(self) -> bool:
        """The robot's own driver sees to it."""
        return True

    def calibrate(self) -> None:
        """Nothing to do."""

    def configure(self) -> None:
        """Nothing to do."""

    @check_if_already_connected
    def connect(self, calibrate: bool = True) -> None:
        """Join the graph and wait for everything that an observation needs. Nothing moves before the operator arms the robot.

        Raises:
            DeviceNotConnectedError: there is no bridge, or joint states or images do not come.
            UserError: somebody else teleoperates the robot.
        """
        del calibrate
        sizes = {name: (view.height, view.width) for name, view in self.cameras.items()}

        def build(node: Node) -> Follower:
            return Follower(node, self._profile, sizes)

        with ExitStack() as stack:
            self._failures.clear()
            follower = stack.enter_context(spinning(NAME, build, self._failures.append, self._profile.name))
            self._wait(follower, CONNECT_S)
            time.sleep(DISCOVERY_S)
            if others := follower.others():
                raise UserError(
                    f"{', '.join(others)} teleoperates {self._profile.name} already; end it, and hold the robot at `vla-rl console`"
                )
            self._follower, self._stack = follower, stack.pop_all()

    @check_if_not_connected
    def get_observation(self) -> dict[str, Any]:
        """Newest measured positions and images, each by itself: they are not matched by their stamps.

        Raises:
            DeviceNotConnectedError: the bridge is gone, or the newest samples are older than the profile's ages.
        """
        follower = self._joined
        self._wait(follower, LATE_S)
        assert follower.measured is not None  # connecting waited for it
        images = {name: follower.images[name] for name in self.cameras}
        return to_features(follower.measured, self._profile.names) | images

    @check_if_not_connected
    def send_action(self, action: dict[str, Any]) -> dict[str, Any]:
        """Go towards positions, which holds for 0.25 s: without a new action the robot is brought to rest.

        Returns:
            The positions that the bridge really sent to the robot last, which is before this action changes them. They differ from
            `action` while the robot is under way, where a limit holds it back, and always while it is not armed. lerobot-record 0.6.1
            does not look at what is returned: as actions it records what the teleoperator asked for.

        Raises:
            UserError: joints are missing or unknown, or a position is not finite; what was asked for before holds no longer.
            DeviceNotConnectedError: the bridge is gone.
        """
        follower = self._joined
        try:
            target = to_positions(action, self._profile.names)
        except UserError:
            follower.rest()
            raise
        self._check_failures()
        if follower.bridge_is_gone:
            raise DeviceNotConnectedError(follower.missing())
        follower.ask(target)
        assert follower.position is not None  # connecting waited for it
        return to_features(follower.position, self._profile.names)

    @check_if_not_connected
    def disconnect(self) -> None:
        """Ask for rest and leave the graph. The bridge hears nobody who teleoperates any more, for which it disarms the robot."""
        stack, self._stack = self._stack, None
        self._joined.rest()
        time.sleep(3 / JOG_HZ)
        self._follower = None
        assert stack is not None  # it is connected
        stack.close()

    @property
    def _joined(self) -> Follower:
        assert self._follower is not None  # it is connected
        return self._follower

    def _wait(self, follower: Follower, wait_s: float) -> None:
        until_s = time.monotonic() + wait_s
        while why := follower.missing():
            self._check_failures()
            if time.monotonic() > until_s:
                raise DeviceNotConnectedError(f"{why} (ROS_DOMAIN_ID is {os.environ.get('ROS_DOMAIN_ID', '0')})")
            time.sleep(POLL_S)

    def _check_failures(self) -> None:
        """Raise what callbacks met."""
        if self._failures:
            raise self._failures[0]
