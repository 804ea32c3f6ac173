"""What is true of one robot: joints and limits, kinematics, wiring, rates, ages, stop behaviour. A YAML file per robot.

A profile is the only place that holds a robot's numbers; bundles are checked against it, and the safety filter, the
runtime, the ROS 2 bridge and the simulated robot read it. Frames: the base frame is the root link's, x forward, z up.

J commanded coordinates: the joints in command order, a gripper among them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from policies.images import Pinhole
from policies.interface import UserError
from robot.geometry import Box, Capsule, Link, root_links, tree_order
from robot.strict_yaml import StrictYamlError, read_mapping

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
"""A YAML number; neither `no` (which YAML reads as false) nor `1e3` (which it reads as a string)."""
Positive = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0)]
Range = tuple[Number, Number]
Unit = Literal["rad", "m", "1"]
"""Of a coordinate: angle, length, or a gripper's opening from closed (0) to open (1)."""
ControllerKind = Literal["joint_trajectory", "forward_command", "low_level"]
StopMode = Literal["hold", "damping"]
Topic = Annotated[str, Field(pattern=r"^(/[A-Za-z_][A-Za-z0-9_]*)+$")]
"""Absolute ROS 2 topic name."""


class ProfileError(UserError):
    """A robot profile is not valid."""


class Part(BaseModel):
    """A frozen part of a profile that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Wire(Part):
    """What LeRobot's driver speaks where it is not the coordinate's own unit: wire = scale · coordinate + offset."""

    unit: Literal["rad", "m", "1", "deg", "percent"]
    """Checked against the mode that LeRobot's motors are in."""
    scale: Number = 1.0
    """[wire unit / coordinate unit]; negative where the driver counts the other way round."""
    offset: Number = 0.0
    """[wire unit]."""

    @model_validator(mode="after")
    def _invertible(self) -> Self:
        if self.scale == 0:
            raise ValueError("scale must not be 0, otherwise measurements cannot be read back")
        return self


class Joint(Part):
    """One commanded coordinate. Limits are those of commands, in `unit`, per second, per second² and per second³."""

    name: str
    """As in JointState messages."""
    unit: Unit
    position: Range
    """Hard limits [unit]; commands stay `soft_margin` inside them."""
    velocity: Positive
    acceleration: Positive
    jerk: Positive
    effort: Positive | None = None
    """[N·m] or [N]; none where the driver reports none."""
    home: Number
    """[unit]."""
    soft_margin: Annotated[float, Field(strict=True, ge=0)]
    """How far commands stay inside the hard limits [unit]."""
    leash: Positive
    """Largest distance of a command from the measurement [unit]."""
    kp: Annotated[float, Field(strict=True, ge=0)] | None = None
    """Stiffness sent with commands where the robot takes gains [N·m/rad]."""
    kd: Annotated[float, Field(strict=True, ge=0)] | None = None
    """Damping sent with commands [N·m·s/rad]."""
    damping_kd: Annotated[float, Field(strict=True, gt=0)] | None = None
    """Damping in stop mode `damping`, with kp = 0 [N·m·s/rad]."""
    wire: Wire | None = None

    @property
    def soft(self) -> tuple[float, float]:
        """Limits of commands [unit]."""
        return self.position[0] + self.soft_margin, self.position[1] - self.soft_margin

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        low, high = self.soft
        if not low < high:
            raise ValueError(f"position {self.position} leaves nothing between soft margins of {self.soft_margin} {self.unit}")
        if not low <= self.home <= high:
            raise ValueError(f"home {self.home} lies outside of the soft limits [{low}, {high}] {self.unit}")
        return self


class Gripper(Part):
    """Which coordinate is the gripper, and where it is closed and open."""

    joint: str
    closed: Number
    """[unit of the joint]."""
    open: Number
    """[unit of the joint]."""


class Workspace(Part):
    """Where the points that matter may be, in the base frame."""

    links: tuple[str, ...]
    """Links whose origins must stay in the box and out of `keep_out`: tool, elbow."""
    box: Box
    keep_out: tuple[Box, ...] = ()


class SelfCollision(Part):
    """Capsules on links, and how far apart those of different links must stay."""

    capsules: tuple[Capsule, ...]
    pairs: tuple[tuple[str, str], ...]
    """Names of capsules that are checked against each other."""
    clearance_m: Annotated[float, Field(strict=True, ge=0)]


class Controller(Part):
    """One controller of the robot; together they command every coordinate."""

    kind: ControllerKind
    joints: tuple[str, ...]
    """In the order of the controller's message."""
    topic: Topic
    """Commands go here."""


class Vendor(Part):
    """Message types that come with the robot's own ROS 2 packages; imported when the bridge is configured, never before."""

    module: str
    """Python module, for example `unitree_hg.msg`."""
    state: str
    """Class of state messages."""
    command: str
    """Class of command messages."""


class Driver(Part):
    """LeRobot's driver of a robot that is not on ROS 2 by itself; `vla-rl drive` runs it behind the profile's topics."""

    module: str
    """Python module that makes it known, for example `lerobot.robots.so_follower`."""
    type: str
    """What it is called there: LeRobot's `--robot.type`."""
    settings: dict[str, bool | int | float | str] = {}
    """Of LeRobot's configuration, those that the joints' `wire` entries depend on."""


class Topics(Part):
    """Where measurements come from. Command topics belong to controllers."""

    joint_states: Topic
    images: dict[str, Topic] = {}
    """By camera name, which is the frame of the policy's image entry."""


class Rates(Part):
    """Rates [Hz]."""

    state_hz: Positive
    """Measurements that the robot sends."""
    command_hz: Positive
    """Commands that the runtime sends."""


class Ages(Part):
    """Oldest that something may be when it is used [s]."""

    state_s: Positive
    image_s: Positive
    chunk_s: Positive
    """Of the observation that a chunk of actions was computed from."""


class Safety(Part):
    """What ends or slows motion."""

    heartbeat_timeout_s: Positive
    """Silence of the commander after which its lease is over."""
    deadman_timeout_s: Positive
    """Silence of the dead-man switch after which it counts as released."""
    watchdog_misses: Annotated[int, Field(strict=True, ge=1)]
    """Control deadlines missed in a row that are a fault."""
    frozen_s: Positive
    """Bit-equal measurements for longer than this under fresh stamps are a fault."""
    starvation_s: Positive
    """How long a hold without actions lasts before it is a fault."""
    intervention_limit_s: Positive
    """A source that is held back by leash, workspace or collisions for longer than this without a break is a fault."""
    ramp_s: Annotated[float, Field(strict=True, ge=0)]
    """Duration of the way from where the robot stands to the first action; 0 in lockstep with a simulator."""
    stop_mode: StopMode
    speed_cap: Annotated[float, Field(strict=True, gt=0, le=1)]
    """Default share of the joint velocity limits; an operator may raise it."""
    estop_required: bool
    """Whether arming needs a live e-stop source."""


class RobotProfile(Part):
    """One robot."""

    name: str
    """Embodiment id of policies; also the namespace of the bridge."""
    joints: tuple[Joint, ...]
    """In command order."""
    grippers: tuple[Gripper, ...] = ()
    chain: tuple[Link, ...] = ()
    """Kinematic tree; empty where only joint limits protect the robot."""
    workspace: Workspace | None = None
    collision: SelfCollision | None = None
    controllers: tuple[Controller, ...]
    topics: Topics
    cameras: dict[str, Pinhole] = {}
    """Those of `topics.images` that are calibrated (`vla-rl calibrate`): their images are made into what policies were trained on."""
    vendor: Vendor | None = None
    driver: Driver | None = None
    rates: Rates
    ages: Ages
    safety: Safety

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the J coordinates in command order."""
        return tuple(joint.name for joint in self.joints)

    @property
    def home(self) -> np.ndarray:
        """`(J,)` float64."""
        return np.array([joint.home for joint in self.joints])

    def to_wire(self, position: np.ndarray) -> np.ndarray:
        """`(J,)` positions in the units that the driver speaks."""
        scale, offset = self._wires()
        return scale * position + offset

    def from_wire(self, value: np.ndarray) -> np.ndarray:
        """`(J,)` positions in the joints' units, of values that the driver gave."""
        scale, offset = self._wires()
        return (value - offset) / scale

    def _wires(self) -> tuple[np.ndarray, np.ndarray]:
        wires = [joint.wire or Wire(unit=joint.unit) for joint in self.joints]
        return np.array([wire.scale for wire in wires]), np.array([wire.offset for wire in wires])

    @property
    def period_s(self) -> float:
        """Between two commands."""
        return 1 / self.rates.command_hz

    @model_validator(mode="after")
    def _names_unique(self) -> Self:
        links = [link.name for link in self.chain]
        capsules = [capsule.name for capsule in self.collision.capsules] if self.collision else []
        for what, names in (("joints", list(self.names)), ("chain", links), ("collision.capsules", capsules)):
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"{what} has more than one of {', '.join(twice)}")
        return self

    @model_validator(mode="after")
    def _cameras_are_heard(self) -> Self:
        if unknown := sorted(set(self.cameras) - set(self.topics.images)):
            raise ValueError(f"cameras has {', '.join(unknown)}, topics.images has {', '.join(self.topics.images) or 'none'}")
        return self

    @model_validator(mode="after")
    def _controllers_cover_joints(self) -> Self:
        commanded = [name for controller in self.controllers for name in controller.joints]
        if sorted(commanded) != sorted(self.names):
            raise ValueError(f"controllers command {commanded}, they must command each of {list(self.names)} exactly once")
        if self.driver and any(controller.kind != "forward_command" for controller in self.controllers):
            raise ValueError("a robot with a driver is commanded by controllers of kind forward_command")
        if any(controller.kind == "low_level" for controller in self.controllers):
            if self.vendor is None:
                raise ValueError("a low_level controller needs `vendor`: module, state and command message")
            if len(self.controllers) > 1:
                raise ValueError(f"a low_level controller commands every joint, there are {len(self.controllers)} controllers")
            if limp := [joint.name for joint in self.joints if joint.kp is None or joint.kd is None]:
                raise ValueError(f"low_level commands carry gains, kp and kd are missing for {', '.join(limp)}")
        for gripper in self.grippers:
            joint = self._joint(gripper.joint, "grippers")
            for end in (gripper.closed, gripper.open):
                if not joint.soft[0] <= end <= joint.soft[1]:
                    raise ValueError(f"gripper {gripper.joint}: {end} lies outside of its soft limits {joint.soft}")
        return self

    @model_validator(mode="after")
    def _stops(self) -> Self:
        if self.safety.stop_mode == "damping":
            without = [joint.name for joint in self.joints if joint.damping_kd is None or joint.kp is None or joint.kd is None]
            if without:
                raise ValueError(f"stop mode damping needs kp, kd and damping_kd of every joint; missing for {', '.join(without)}")
            if kinds := sorted({controller.kind for controller in self.controllers} - {"low_level"}):
                raise ValueError(f"stop mode damping is sent with gains, which commands of {', '.join(kinds)} do not carry; choose hold")
        return self

    @model_validator(mode="after")
    def _tree_is_whole(self) -> Self:
        if self.chain:
            tree_order(self.chain)
            grippers = {gripper.joint for gripper in self.grippers}
            moved = [link.joint for link in self.chain if link.joint]
            for name in moved:
                self._joint(name, "chain")
            if lacking := [name for name in self.names if name not in moved and name not in grippers]:
                raise ValueError(f"chain does not move {', '.join(lacking)}")
        known = {link.name for link in self.chain} | root_links(self.chain)
        capsules = self.collision.capsules if self.collision else ()
        used = {*(self.workspace.links if self.workspace else ()), *(capsule.link for capsule in capsules)}
        if unknown := sorted(used - known):
            raise ValueError(f"workspace or collision names links {', '.join(unknown)}; the chain has {', '.join(sorted(known)) or 'none'}")
        there = {capsule.name for capsule in capsules}
        if stray := sorted({name for pair in (self.collision.pairs if self.collision else ()) for name in pair} - there):
            raise ValueError(f"collision.pairs names capsules {', '.join(stray)}; there are {', '.join(sorted(there))}")
        return self

    def _joint(self, name: str, where: str) -> Joint:
        for joint in self.joints:
            if joint.name == name:
                return joint
        raise ValueError(f"{where} names joint {name}; joints are {', '.join(self.names)}")


def load_profile(path: Path) -> RobotProfile:
    """Read a profile. Raises `ProfileError` that lists every wrong key with its path."""
    try:
        return RobotProfile.model_validate(read_mapping(path))
    except StrictYamlError as error:
        raise ProfileError(str(error)) from None
    except ValidationError as error:
        raise ProfileError("; ".join(f"{path}: {_sentence(problem['loc'], problem['msg'])}" for problem in error.errors())) from None


def _sentence(location: tuple[int | str, ...], message: str) -> str:
    where = ".".join(map(str, location)) or "profile"
    if message == "Extra inputs are not permitted":
        return f"unknown key {where}"
    return f"{where}: {message[0].lower()}{message[1:]}"
