"""Grasp a named block, among others, and lift it."""

from __future__ import annotations

import torch

from sim.control import Waypoint
from sim.state import Goal, SceneState
from sim.tasks import reach
from sim.tasks.blocks import BLOCKS, HALF, carry, target_distance, target_pos
from sim.tasks.task import Reward, Task, near

HEIGHT = 0.1
"""How far the block must rise [m]."""


def height(state: SceneState, goal: Goal) -> torch.Tensor:
    """Of the named block above where it lies, `(B,)` [m]."""
    return target_pos(state, goal)[:, 2] - HALF


def expert(state: SceneState, goal: Goal) -> Waypoint:
    """Grasp and go up."""
    block = target_pos(state, goal)
    return carry(state, goal, torch.stack([block[:, 0], block[:, 1], torch.full_like(block[:, 2], 0.2)], 1))


TASK = Task(
    name="lift",
    scene=BLOCKS,
    horizon=80,
    start=reach.start,
    rewards={
        "near": Reward(1.0, lambda state, goal: near(target_distance(state, goal), 0.1)),
        "height": Reward(2.0, lambda state, goal: (height(state, goal) / HEIGHT).clamp(0, 1)),
    },
    success=lambda state, goal: height(state, goal) > HEIGHT,
    points=(target_pos,),
    expert=expert,
    instructions=("lift the {colour} block", "pick up the {colour} cube", "grasp the {colour} block and raise it"),
    held_out=("take the {colour} cube off the table", "get hold of the block that is {colour} and hold it up"),
)
