"""From actions in [-1, 1] to joint targets, and from waypoints to actions; the same for every backend.

    joint_delta  the last joint target moves by up to `JOINT_STEP`
    ee_delta     the last tool target moves by up to `TOOL_STEP` and turns by up to `YAW_STEP`; the joints follow by damped
                 least squares, with the tool pointing down and the rest of the arm drawn to its home

The last action is the gripper: -1 closed, 1 open.

B environments · J arm joints · A actions
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
import torch

from policies.interface import ActionSpec
from sim.robots import Robot
from sim.scene import CONTROL_HZ
from sim.state import SceneState, rotation_matrix, tool_yaw, wrap

Kind = Literal["ee_delta", "joint_delta"]
KINDS: tuple[Kind, ...] = ("ee_delta", "joint_delta")

TOOL_STEP = 0.03
"""[m] per control step and axis."""
LEAD = 0.06
"""How far the tool target may run ahead of a tool that is blocked, per axis [m]."""
YAW_STEP = 0.2
"""[rad] per control step."""
JOINT_STEP = 0.05
"""[rad] per control step."""
PLANNED_STEP = 0.015
"""How far an expert in joint steps moves the tool in a control step, per axis [m]; joints that lag more bend its path."""
PLANNED_TURN = 0.06
"""How far it turns the tool in a control step at most [rad]."""
TURN_SHARE = 0.15
"""Share of what the tool is to turn that is taken per control step: a tilt is set right over many steps, not in the next one."""
JOINT_LEAD = 0.3
"""How far an expert's joint targets may run ahead of joints that are blocked [rad]."""
WORKSPACE = ((0.25, -0.4, 0.01), (0.75, 0.4, 0.5))
"""Corners of the box that tool targets stay in [m]."""
DAMPING = 0.05
"""λ of damped least squares."""
POSTURE = 0.1
"""Share of the way home that is taken per control step where it does not move the tool."""


@dataclass(frozen=True)
class Command:
    """Where the servos are told to go."""

    joints: torch.Tensor
    """`(B, J)` [rad]."""
    opening: torch.Tensor
    """`(B,)` from 0 to 1."""
    tool: torch.Tensor
    """`(B, 3)` tool target [m]; only `ee_delta` moves it."""
    yaw: torch.Tensor
    """`(B,)` [rad]; only `ee_delta` turns it."""

    def __getitem__(self, index: torch.Tensor) -> Command:
        return Command(**{field.name: getattr(self, field.name)[index] for field in fields(self)})

    @property
    def rows(self) -> np.ndarray:
        """All of it as numbers, `(B, J + 5)`: joints, opening, tool, yaw."""
        return torch.cat([self.joints, self.opening[:, None], self.tool, self.yaw[:, None]], 1).cpu().numpy()

    @classmethod
    def of(cls, rows: torch.Tensor) -> Command:
        """The command whose `rows` these are."""
        return cls(rows[:, :-5], rows[:, -5], rows[:, -4:-1], rows[:, -1])


@dataclass(frozen=True)
class Waypoint:
    """Where an expert wants the tool to be, pointing down."""

    tool: torch.Tensor
    """`(B, 3)` [m]."""
    yaw: torch.Tensor
    """`(B,)` of the direction in which the fingers open, against the y axis [rad]; π more is the same."""
    opening: torch.Tensor
    """`(B,)` from 0 to 1."""


def action_spec(robot: Robot, kind: Kind) -> ActionSpec:
    """Names and ranges of the actions."""
    names = ("dx", "dy", "dz", "dyaw", "gripper") if kind == "ee_delta" else (*(f"d_{joint}" for joint in robot.joints), "gripper")
    representation = "end_effector_delta" if kind == "ee_delta" else "delta"
    return ActionSpec(names=names, representation=representation, low=(-1.0,) * len(names), high=(1.0,) * len(names))


def hold(state: SceneState) -> Command:
    """The command that keeps a state."""
    return Command(state.joint_pos.clone(), state.opening.clone(), state.tcp_pos.clone(), tool_yaw(state))


def follow(kind: Kind, robot: Robot, command: Command, action: torch.Tensor, state: SceneState, limits: torch.Tensor) -> Command:
    """The next command after `action` `(B, A)`; `limits` `(J, 2)` [rad]."""
    opening = (action[:, -1] + 1) / 2
    if kind == "joint_delta":
        joints = (command.joints + JOINT_STEP * action[:, :-1]).clamp(limits[:, 0], limits[:, 1])
        return Command(joints, opening, command.tool, command.yaw)
    low, high = torch.tensor(WORKSPACE).to(action)
    tool = (command.tool + TOOL_STEP * action[:, :3]).clamp(low, high)
    tool = state.tcp_pos + (tool - state.tcp_pos).clamp(-LEAD, LEAD)
    yaw = command.yaw + YAW_STEP * action[:, 3]
    joints = inverse_kinematics(robot, state, tool, yaw, limits)
    return Command(joints, opening, tool, yaw)


def towards(kind: Kind, robot: Robot, command: Command, waypoint: Waypoint, state: SceneState, limits: torch.Tensor) -> torch.Tensor:
    """The action `(B, A)` that leads to a waypoint, from where the servos are told to go, not from where they are.

    A plan from the measured joints would take back in one step all that they lag and all that noise has added: labels as
    noisy as the path.
    """
    gripper = 2 * waypoint.opening[:, None] - 1
    if kind == "ee_delta":
        move = (waypoint.tool - command.tool) / TOOL_STEP
        move = move / move.abs().amax(1, keepdim=True).clamp_min(1)  # a straight line
        turn = wrap(waypoint.yaw - command.yaw, math.pi)
        return torch.cat([move, (turn / YAW_STEP)[:, None].clamp(-1, 1), gripper], 1)
    ahead = (state.jacobian @ (command.joints - state.joint_pos)[..., None])[..., 0]  # the commanded tool, as seen from the measured one
    tool, turned = state.tcp_pos + ahead[:, :3], tool_yaw(state) + ahead[:, 5]
    step = waypoint.tool - tool
    step = step / (step.abs().amax(1, keepdim=True) / PLANNED_STEP).clamp_min(1)
    yaw = turned + wrap(waypoint.yaw - turned, math.pi)
    joints = inverse_kinematics(robot, state, tool + step, yaw, limits, command.joints, TURN_SHARE, PLANNED_TURN)
    joints = state.joint_pos + (joints - state.joint_pos).clamp(-JOINT_LEAD, JOINT_LEAD)
    return torch.cat([((joints - command.joints) / JOINT_STEP).clamp(-1, 1), gripper], 1)


def inverse_kinematics(
    robot: Robot,
    state: SceneState,
    tool: torch.Tensor,
    yaw: torch.Tensor,
    limits: torch.Tensor,
    start: torch.Tensor | None = None,
    share: float = 1.0,
    turn: float = math.pi,
) -> torch.Tensor:
    """Joint targets `(B, J)` one step from `start` closer to the tool at `tool` `(B, 3)`, pointing down, turned by `yaw` `(B,)`.

    Damped least squares, Δq = Jᵀ(JJᵀ + λ²)⁻¹ e, as Isaac Lab's controller (tests compare them), with the arm drawn home in
    what is left of its freedom. Each joint moves by at most its velocity limit for one control step, and the tool turns by
    `share` of what is left, at most `turn` [rad]. `start` `(B, J)` is the measured joints if `None`; where the tool is at other
    joints near them is taken from the Jacobian.
    """
    J = state.jacobian
    start = state.joint_pos if start is None else start
    error = torch.cat([tool - state.tcp_pos, _turn_down(state, yaw)], 1) - (J @ (start - state.joint_pos)[..., None])[..., 0]
    error[:, 3:] *= share
    error[:, 3:] /= (error[:, 3:].norm(dim=1, keepdim=True) / turn).clamp_min(1)
    inverse = J.mT @ torch.linalg.inv(J @ J.mT + DAMPING**2 * torch.eye(6).to(J))
    home = torch.tensor(robot.home).to(J) - start
    free = torch.eye(J.shape[2]).to(J) - inverse @ J
    delta = (inverse @ error[..., None] + POSTURE * free @ home[..., None])[..., 0]
    step = torch.tensor(robot.velocity).to(J) / CONTROL_HZ
    return (start + delta.clamp(-step, step)).clamp(limits[:, 0], limits[:, 1])


def _turn_down(state: SceneState, yaw: torch.Tensor) -> torch.Tensor:
    """Rotation vector `(B, 3)`, world frame, from the tool's orientation to pointing down at `yaw`; half a turn at most."""
    c, s, zero, one = yaw.cos(), yaw.sin(), torch.zeros_like(yaw), torch.ones_like(yaw)
    wanted = torch.stack([torch.stack([c, s, zero], 1), torch.stack([s, -c, zero], 1), torch.stack([zero, zero, -one], 1)], 1)
    R = wanted @ rotation_matrix(state.tcp_quat).mT
    axis = torch.stack([R[:, 2, 1] - R[:, 1, 2], R[:, 0, 2] - R[:, 2, 0], R[:, 1, 0] - R[:, 0, 1]], 1)
    cosine = ((R.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).clamp(-1, 1)
    return axis * (torch.acos(cosine) / axis.norm(dim=1).clamp_min(1e-6))[:, None]
