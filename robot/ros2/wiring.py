"""From a robot's profile to topics, types and quality of service: what the bridge uses and the doctor checks.

J commanded coordinates of the profile
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from rclpy.duration import Duration
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image, JointState

from robot.profile import Controller, RobotProfile
from robot.ros2.adapters import AdapterError, CommandAdapter, ForwardCommand, StreamedTrajectory, import_message
from robot.ros2.streams import Stream

STATE_QOS = QoSProfile(depth=5, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.BEST_EFFORT)
"""Best effort hears reliable and best-effort publishers. No deadline is asked for: publishers that offer none, as those of
ros2_control do, would not be heard at all. Ages are watched by the monotonic clock instead."""
IMAGE_QOS = QoSProfile(depth=1, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.BEST_EFFORT)
LEAD_PERIODS = 2
"""Command periods from the arrival of a streamed trajectory to its commanded state."""
LIFESPAN_PERIODS = 10
"""A command that is still under way after so many periods is dropped, never executed late."""


@dataclass(frozen=True)
class CommandWiring:
    """One controller, and which of the J coordinates it moves."""

    adapter: CommandAdapter
    index: np.ndarray
    """`(C,)` of the controller's joints in the profile's order."""


def command_wiring(profile: RobotProfile) -> tuple[CommandWiring, ...]:
    """Every controller of a robot that is commanded over ROS 2.

    Raises:
        AdapterError: a controller is not commanded over ROS 2, or its vendor's message types are not installed.
    """
    return tuple(
        CommandWiring(_adapter(each, profile), np.array([profile.names.index(name) for name in each.joints]))
        for each in profile.controllers
    )


def command_qos(profile: RobotProfile, lockstep: bool) -> QoSProfile:
    """Reliable, only the newest; in lockstep commands wait for as long as it takes."""
    qos = QoSProfile(depth=1 if not lockstep else 10, reliability=ReliabilityPolicy.RELIABLE)
    if not lockstep:
        qos.lifespan = Duration(seconds=LIFESPAN_PERIODS * profile.period_s)
    return qos


def state_stream(profile: RobotProfile) -> Stream:
    """The robot's joint states."""
    return Stream("joint_states", profile.topics.joint_states, JointState, STATE_QOS, profile.rates.state_hz)


def image_streams(profile: RobotProfile, cameras: tuple[str, ...]) -> tuple[Stream, ...]:
    """The named cameras. Raises `AdapterError` for one that the profile lacks."""
    known = profile.topics.images
    for camera in cameras:
        if camera not in known:
            raise AdapterError(f"the profile of {profile.name} has no camera '{camera}'; it has {', '.join(known) or 'none'}")
    return tuple(Stream(camera, known[camera], Image, IMAGE_QOS, 1 / profile.ages.image_s) for camera in cameras)


def _adapter(controller: Controller, profile: RobotProfile) -> CommandAdapter:
    if controller.kind == "low_level" and profile.vendor is not None:
        command = import_message(profile.vendor.module, profile.vendor.command)
        raise AdapterError(
            f"{command.__name__} is installed, but low-level commands carry the vendor's checksum and mode, which this bridge does not "
            "compute; let a controller of the robot's vendor take joint trajectories, and name it in the profile"
        )
    if controller.kind == "forward_command":
        return ForwardCommand(controller.topic, controller.joints)
    limits = {joint.name: joint.acceleration for joint in profile.joints}
    lead_s = LEAD_PERIODS * profile.period_s
    return StreamedTrajectory(controller.topic, controller.joints, lead_s, tuple(limits[name] for name in controller.joints))
