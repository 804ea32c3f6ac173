"""What the simulated robot takes from a robot profile: names, topics, rates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from robot.profile import Controller, RobotProfile
from sim import HUMANOID
from sim.humanoid.g1 import ARM_JOINTS
from sim.robots import ROBOTS
from sim.vec_env import SimulationError
from sim.workers.vec_env import check_name

ControllerKind = Literal["joint_trajectory", "forward_command"]


@dataclass(frozen=True)
class ControllerWiring:
    """One controller."""

    kind: ControllerKind
    topic: str
    joints: tuple[str, ...]


@dataclass(frozen=True)
class Wiring:
    """One robot on the graph."""

    name: str
    """Embodiment, also the namespace of the node."""
    joints: tuple[str, ...]
    """Names in JointState messages: the arm's joints, then the gripper."""
    state_topic: str
    controllers: tuple[ControllerWiring, ...]
    """Together they move every coordinate, in the order of `joints`."""
    image_topics: dict[str, str]
    """By camera preset."""
    state_hz: float
    tick_hz: float
    """Commands per second: one tick in lockstep."""


def wire(profile: RobotProfile, cameras: tuple[str, ...] | None = None) -> Wiring:
    """The place on the graph of the simulated robot that a profile describes.

    Args:
        profile: the robot's.
        cameras: that are published; `front` if `None`, where the profile has it.

    Raises:
        SimulationError: no simulated robot has this name, or the profile says something that the simulator cannot be.
    """
    check_name("simulated robot", profile.name, (*ROBOTS, HUMANOID))
    _require_joints(profile)
    if cameras is None:
        cameras = tuple(camera for camera in profile.topics.images if camera == "front")
    for camera in cameras:
        check_name("camera of the profile's topics.images", camera, tuple(profile.topics.images))
    if len(set(cameras)) != len(cameras):
        raise SimulationError(f"each camera may be given once, got {', '.join(cameras)}")
    controllers = tuple(_controller(each) for each in profile.controllers)
    if tuple(name for each in controllers for name in each.joints) != profile.names:
        raise SimulationError(f"controllers must command the joints in the profile's order, {list(profile.names)}")
    images = {camera: profile.topics.images[camera] for camera in cameras}
    rates = profile.rates
    return Wiring(profile.name, profile.names, profile.topics.joint_states, controllers, images, rates.state_hz, rates.command_hz)


def _require_joints(profile: RobotProfile) -> None:
    """Raise `SimulationError` unless the profile commands what the simulated robot has, in its order."""
    arm, hand = (ARM_JOINTS, "") if profile.name == HUMANOID else (ROBOTS[profile.name].joints, "gripper")
    names = profile.names[: len(arm)]
    if names != arm or len(profile.names) != len(arm) + bool(hand):
        raise SimulationError(
            f"the profile commands {list(profile.names)}, the simulated {profile.name} has {list(arm)}{hand and ' and a gripper'}"
        )
    grippers = [(gripper.joint, gripper.closed, gripper.open) for gripper in profile.grippers]
    wanted = [(profile.names[-1], 0.0, 1.0)] if hand else []
    if grippers != wanted:
        raise SimulationError(f"the simulated gripper is the last joint, commanded from 0 (closed) to 1 (open); the profile has {grippers}")


def _controller(controller: Controller) -> ControllerWiring:
    kind = controller.kind
    if kind != "joint_trajectory" and kind != "forward_command":
        raise SimulationError(f"the simulated robot has no controller of kind {kind}; it has joint_trajectory and forward_command")
    return ControllerWiring(kind, controller.topic, controller.joints)
