"""From a robot's profile to topics, types and quality of service: what the bridge uses and the doctor checks.

J commanded coordinates of the profile
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from builtin_interfaces.msg import Time
from rclpy.duration import Duration
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image, JointState

from robot.profile import Controller, RobotProfile
from robot.ros2.adapters import AdapterError, CommandAdapter, ForwardCommand, StreamedTrajectory, import_message
from robot.ros2.low_level import LowLevel
from robot.ros2.streams import Stream

STATE_QOS = QoSProfile(depth=5, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.BEST_EFFORT)
"""Best effort hears reliable and best-effort publishers. No deadline is asked for: publishers that offer none, as those of
ros2_control do, would not be heard at all. Ages are watched by the monotonic clock instead."""
IMAGE_QOS = QoSProfile(depth=1, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.BEST_EFFORT)
LEAD_PERIODS = 2
"""Command periods from the arrival of a streamed trajectory to its commanded state."""
LIFESPAN_PERIODS = 10
"""A command that is still under way after so many periods is dropped, never executed late."""


class StateReader(Protocol):
    """What the robot publishes about its joints."""

    @property
    def state_type(self) -> type:
        """Of the messages."""
        ...

    def decode(self, state: Any, arrived: Time) -> JointState:
        """Joint states of one message."""
        ...


class PlainStates:
    """Joint states as they are."""

    state_type = JointState

    def decode(self, state: JointState, arrived: Time) -> JointState:
        del arrived
        return state


@dataclass(frozen=True)
class CommandWiring:
    """One controller, and which of the J coordinates it moves."""

    adapter: CommandAdapter
    index: np.ndarray
    """`(C,)` of the controller's joints in the profile's order."""


def state_reader(profile: RobotProfile) -> StateReader:
    """How the robot's joint states are read.

    Raises:
        AdapterError: the message types of the robot's vendor are not installed.
    """
    for each in profile.controllers:
        if each.kind == "low_level" and profile.vendor is not None:
            types = [import_message(profile.vendor.module, name) for name in (profile.vendor.state, profile.vendor.command)]
            return LowLevel(each.topic, each.joints, (types[0], types[1]), {joint.name: joint for joint in profile.joints})
    return PlainStates()


def command_wiring(profile: RobotProfile, reader: StateReader) -> tuple[CommandWiring, ...]:
    """Every controller of a robot that is commanded over ROS 2; `reader` of its states."""
    return tuple(
        CommandWiring(_adapter(each, profile, reader), np.array([profile.names.index(name) for name in each.joints]))
        for each in profile.controllers
    )


def command_qos(profile: RobotProfile, lockstep: bool) -> QoSProfile:
    """Reliable, only the newest; in lockstep commands wait for as long as it takes."""
    qos = QoSProfile(depth=1 if not lockstep else 10, reliability=ReliabilityPolicy.RELIABLE)
    if not lockstep:
        qos.lifespan = Duration(seconds=LIFESPAN_PERIODS * profile.period_s)
    return qos


def state_stream(profile: RobotProfile, reader: StateReader) -> Stream:
    """The robot's joint states."""
    return Stream("joint_states", profile.topics.joint_states, reader.state_type, STATE_QOS, profile.rates.state_hz)


def image_streams(profile: RobotProfile, cameras: tuple[str, ...]) -> tuple[Stream, ...]:
    """The named cameras. Raises `AdapterError` for one that the profile lacks."""
    known = profile.topics.images
    for camera in cameras:
        if camera not in known:
            raise AdapterError(f"the profile of {profile.name} has no camera '{camera}'; it has {', '.join(known) or 'none'}")
    return tuple(Stream(camera, known[camera], Image, IMAGE_QOS, 1 / profile.ages.image_s) for camera in cameras)


def _adapter(controller: Controller, profile: RobotProfile, reader: StateReader) -> CommandAdapter:
    if isinstance(reader, LowLevel):
        return reader
    if controller.kind == "forward_command":
        return ForwardCommand(controller.topic, controller.joints)
    limits = {joint.name: joint.acceleration for joint in profile.joints}
    lead_s = LEAD_PERIODS * profile.period_s
    return StreamedTrajectory(controller.topic, controller.joints, lead_s, tuple(limits[name] for name in controller.joints))
