"""The state of a batch of tabletop scenes as torch tensors: what rewards, successes and experts are functions of.

B environments of one scene · J arm joints · M movable bodies · F fixtures. World frame of `sim.scene`, SI units,
quaternions w, x, y, z.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch

Goal = dict[str, torch.Tensor]
"""What an episode is about, by name: `(B,)` int64 indices or float32 numbers."""


@dataclass(frozen=True)
class SceneState:
    """Everything a task may look at."""

    joint_pos: torch.Tensor
    """`(B, J)` [rad]."""
    joint_vel: torch.Tensor
    """`(B, J)` [rad/s]."""
    opening: torch.Tensor
    """`(B,)` of the gripper, from closed (0) to open (1)."""
    tcp_pos: torch.Tensor
    """`(B, 3)`."""
    tcp_quat: torch.Tensor
    """`(B, 4)`; at the identity rotated by π about x the tool points down and the fingers open along y."""
    jacobian: torch.Tensor
    """`(B, 6, J)` of the tool centre point: linear, then angular velocity per joint velocity."""
    body_pos: torch.Tensor
    """`(B, M, 3)`."""
    body_quat: torch.Tensor
    """`(B, M, 4)`."""
    body_vel: torch.Tensor
    """`(B, M, 3)` linear."""
    fixture_pos: torch.Tensor
    """`(B, F, 3)` of the fixed part."""
    fixture: torch.Tensor
    """`(B, F)` joint coordinate."""

    def __getitem__(self, index: torch.Tensor) -> SceneState:
        return SceneState(**{field.name: getattr(self, field.name)[index] for field in fields(self)})

    @classmethod
    def cat(cls, states: Sequence[SceneState]) -> SceneState:
        """Several batches as one."""
        return cls(**{field.name: torch.cat([getattr(state, field.name) for state in states]) for field in fields(cls)})


def chosen(values: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Row `index` `(B,)` of each `(B, M, ...)`: `(B, ...)`."""
    return values[torch.arange(len(index), device=index.device), index]


def rotation_matrix(quat: torch.Tensor) -> torch.Tensor:
    """`(..., 4)` → `(..., 3, 3)`."""
    w, x, y, z = quat.unbind(-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def yaw(quat: torch.Tensor) -> torch.Tensor:
    """Rotation about the world's z axis, `(..., 4)` → `(...)` [rad]."""
    w, x, y, z = quat.unbind(-1)
    return torch.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))


def tool_yaw(state: SceneState) -> torch.Tensor:
    """`(B,)` angle of the tool's x axis about the world's z axis [rad]."""
    return yaw(state.tcp_quat)


def turned(state: SceneState, angle: torch.Tensor) -> torch.Tensor:
    """Whether the tool's yaw is within 0.1 rad of `angle` `(B,)`, or opposite, which is the same for two fingers. `(B,)` bool."""
    return wrap(angle - tool_yaw(state), math.pi).abs() < 0.1


def wrap(angle: torch.Tensor, period: float) -> torch.Tensor:
    """The equivalent angle nearest to 0."""
    return angle - period * torch.round(angle / period)
