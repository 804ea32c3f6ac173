"""Bring the tool just above a named block, among others."""

from __future__ import annotations

import numpy as np
import torch

from sim.control import Waypoint
from sim.state import Goal, SceneState
from sim.tasks.blocks import APART, BLOCKS, COLOURS, REGION, block_yaw, on_table, target_pos
from sim.tasks.task import Reward, Start, Task, joint_offset, near, scatter

ABOVE = 0.06
"""Height of the goal over the block's centre [m]."""
CLOSE = 0.025
"""Largest distance from the goal [m]."""


def start(rng: np.random.Generator) -> Start:
    """Four blocks anywhere, one of them named."""
    target = int(rng.integers(len(COLOURS)))
    points = scatter(rng, len(COLOURS), *REGION, apart=APART)
    none = np.zeros((0, 3))
    words = {"colour": list(COLOURS)[target]}
    return Start(joint_offset(rng), on_table(points), block_yaw(rng, len(COLOURS)), none, none[:, 0], {"target": target}, words)


def goal_pos(state: SceneState, goal: Goal) -> torch.Tensor:
    """The point above the named block, `(B, 3)`."""
    return target_pos(state, goal) + torch.tensor([0.0, 0.0, ABOVE]).to(state.tcp_pos)


def distance(state: SceneState, goal: Goal) -> torch.Tensor:
    """From tool to goal, `(B,)` [m]."""
    return (state.tcp_pos - goal_pos(state, goal)).norm(dim=1)


def expert(state: SceneState, goal: Goal) -> Waypoint:
    """Straight to the goal, fingers open; how the block is turned does not matter."""
    return Waypoint(goal_pos(state, goal), torch.zeros_like(state.opening), torch.ones_like(state.opening))


TASK = Task(
    name="reach",
    scene=BLOCKS,
    horizon=60,
    start=start,
    rewards={"near": Reward(1.0, lambda state, goal: near(distance(state, goal), 0.1))},
    success=lambda state, goal: distance(state, goal) < CLOSE,
    points=(goal_pos,),
    expert=expert,
    instructions=("reach the {colour} block", "move the gripper above the {colour} block", "go to the {colour} cube"),
    held_out=("hover over the {colour} block", "bring your hand to the cube that is {colour}"),
)
