"""What a robot must know about a policy's simulator: action map, joint limits, cameras, normalisation, delays.

Numbers are read from the simulator's own tables and from the policy's weights, never typed in again.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import mujoco
import numpy as np
import torch

from policies.action_map import ActionTerm
from policies.bundle import CameraPose, JointLimit, ObservationTerm
from policies.images import Pinhole
from policies.interface import ActionSpec, Entry, Policy
from sim import HUMANOID
from sim.camera import Camera
from sim.control import JOINT_STEP, TOOL_STEP, WORKSPACE, YAW_STEP
from sim.humanoid.g1 import ARM_JOINTS, CONTROL_HZ
from sim.humanoid.hands import STEP as HANDS_STEP
from sim.robots import ROBOTS
from vla_rl.config import SimConfig

METAWORLD_STEP = 0.01
"""[m] that Meta-World's hand target moves at action 1 (its `action_scale`)."""


def action_map(action: ActionSpec, config: SimConfig) -> tuple[ActionTerm, ...]:
    """What each action dimension commands in the simulator of `config`."""
    if config.backend == "metaworld":
        return _metaworld_map(action)
    if config.robot == HUMANOID:
        return _joint_deltas(action.names, joint_limits(config), HANDS_STEP)
    opening = ActionTerm(
        name=action.names[-1], space="gripper", target="gripper", kind="absolute", unit="1", scale=0.5, offset=0.5, low=0.0, high=1.0
    )
    if config.control == "joint_delta":
        return *_joint_deltas(action.names[:-1], joint_limits(config), JOINT_STEP), opening
    low, high = WORKSPACE
    axes = [("x", "m", TOOL_STEP), ("y", "m", TOOL_STEP), ("z", "m", TOOL_STEP), ("yaw", "rad", YAW_STEP)]
    tool = [
        ActionTerm(
            name=name,
            space="tool",
            target=axis,
            kind="delta",
            unit=unit,
            scale=step,
            low=low[i] if i < len(low) else None,
            high=high[i] if i < len(high) else None,
        )
        for i, (name, (axis, unit, step)) in enumerate(zip(action.names[:-1], axes, strict=True))
    ]
    return *tool, opening


def _joint_deltas(names: Sequence[str], limits: Sequence[JointLimit], step: float) -> tuple[ActionTerm, ...]:
    """Steps of the joints inside their ranges; at action 1 of `step` [rad]."""
    return tuple(
        ActionTerm(name=name, space="joint", target=limit.joint, kind="delta", unit=limit.unit, scale=step, low=limit.low, high=limit.high)
        for name, limit in zip(names, limits, strict=True)
    )


def _metaworld_map(action: ActionSpec) -> tuple[ActionTerm, ...]:
    """Steps of the hand inside the library's workspace (its tasks clip further inside), and a gripper that is pushed, not placed."""
    from sim.metaworld.env import STATE_HIGH, STATE_LOW

    hand = [
        ActionTerm(name=name, space="tool", target=axis, kind="delta", unit="m", scale=METAWORLD_STEP, low=low, high=high)
        for name, axis, low, high in zip(action.names[:3], "xyz", STATE_LOW[:3], STATE_HIGH[:3], strict=True)
    ]
    # Positive effort closes the library's gripper; its opening runs from 0 (closed) to 1.
    gripper = ActionTerm(
        name=action.names[3], space="gripper", target="gripper", kind="absolute", unit="1", scale=-0.5, offset=0.5, low=0.0, high=1.0
    )
    return *hand, gripper


def joint_limits(config: SimConfig) -> tuple[JointLimit, ...]:
    """Range and speed of each arm joint, where the robot is one of ours."""
    if config.backend == "metaworld":
        return ()
    if config.robot == HUMANOID:
        from sim.humanoid.model import compiled

        model, joints, velocities = compiled(), ARM_JOINTS, (HANDS_STEP * CONTROL_HZ,) * len(ARM_JOINTS)
    else:
        robot = ROBOTS[config.robot]
        model, joints, velocities = mujoco.MjModel.from_xml_path(str(robot.model)), robot.joints, robot.velocity
    ranges = [np.array(model.joint(name).range, np.float32) for name in joints]  # float32, as control clips to it
    return tuple(
        JointLimit(joint=name, unit="rad", low=float(low), high=float(high), velocity=velocity)
        for name, (low, high), velocity in zip(joints, ranges, velocities, strict=True)
    )


def observation_terms(policy: Policy, config: SimConfig) -> tuple[ObservationTerm, ...]:
    """Normalisation of each state as the policy does it, and the camera of each image."""
    return tuple(_term(policy, entry, config) for entry in policy.spec.entries)


def _term(policy: Policy, entry: Entry, config: SimConfig) -> ObservationTerm:
    if entry.kind == "image":
        camera = _cameras(config)[entry.frame]
        return ObservationTerm(name=entry.name, camera=_pinhole(camera, entry.shape[0]), pose=_pose(camera))
    if entry.kind == "state":
        ends = np.array([entry.low, entry.high])
        low, high = policy.normalised(entry.name, torch.as_tensor(ends, dtype=torch.float32)).double().numpy()
        scale = (high - low) / (ends[1] - ends[0])
        return ObservationTerm(name=entry.name, scale=tuple(scale.tolist()), offset=tuple((low - scale * ends[0]).tolist()))
    return ObservationTerm(name=entry.name)


def seen_delays(config: SimConfig) -> tuple[float, float]:
    """Shortest and longest delay from observation to action in training [s]: ages of what is shown, and then of commands."""
    if not config.randomize.enabled:
        return 0.0, 0.0
    timing = config.randomize.timing
    (image_low, image_high), (state_low, state_high), (low, high) = map(timing.delay_range_s, ("image", "state", "action"))
    return min(image_low, state_low) + low, max(image_high, state_high) + high


def _cameras(config: SimConfig) -> dict[str, Camera]:
    if config.backend == "metaworld":
        from sim.metaworld.tasks import CAMERAS
    else:
        from sim.tabletop import CAMERAS
    return CAMERAS


def _pinhole(camera: Camera, image_px: int) -> Pinhole:
    focal, centre = camera.focal_px(image_px), (image_px - 1) / 2
    return Pinhole(width_px=image_px, height_px=image_px, fx_px=focal, fy_px=focal, cx_px=centre, cy_px=centre)


def _pose(camera: Camera) -> CameraPose:
    turn = cv2.Rodrigues(camera.rotation)[0][:, 0]
    angle = float(np.linalg.norm(turn))
    axis = turn / max(angle, 1e-12)
    x, y, z = (float(value) for value in np.sin(angle / 2) * axis)
    position = camera.position_m
    return CameraPose(
        position_m=(float(position[0]), float(position[1]), float(position[2])), quat_wxyz=(float(np.cos(angle / 2)), x, y, z)
    )
