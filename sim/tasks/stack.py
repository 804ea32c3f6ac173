"""Put a named block on top of another named block."""

from __future__ import annotations

import numpy as np
import torch

from sim.control import Waypoint
from sim.state import Goal, SceneState, chosen
from sim.tasks.blocks import (
    APART,
    BLOCKS,
    COLOURS,
    HALF,
    HOVER,
    REGION,
    RELEASED,
    block_yaw,
    carry,
    let_go,
    on_table,
    target_distance,
    target_pos,
)
from sim.tasks.task import Reward, Start, Task, joint_offset, near, scatter

ASIDE = 0.02
"""Largest distance in the plane between the centres of the two blocks [m]."""
FLAT = 0.006
"""How far the upper block's height may be off [m]."""


def start(rng: np.random.Generator) -> Start:
    """Four blocks anywhere, two of them named."""
    target, base = (int(i) for i in rng.choice(len(COLOURS), 2, replace=False))
    points = scatter(rng, len(COLOURS), *REGION, apart=APART)
    none = np.zeros((0, 3))
    words = {"colour": list(COLOURS)[target], "base": list(COLOURS)[base]}
    goals = {"target": target, "base": base}
    return Start(joint_offset(rng), on_table(points), block_yaw(rng, len(COLOURS)), none, none[:, 0], goals, words)


def place_pos(state: SceneState, goal: Goal) -> torch.Tensor:
    """Where the named block's centre belongs, `(B, 3)`."""
    return chosen(state.body_pos, goal["base"]) + torch.tensor([0.0, 0.0, 2 * HALF]).to(state.body_pos)


def offset(state: SceneState, goal: Goal) -> torch.Tensor:
    """From the named block to where it belongs, `(B, 3)` [m]."""
    return place_pos(state, goal) - target_pos(state, goal)


def stacked(state: SceneState, goal: Goal) -> torch.Tensor:
    """Whether one block stands on the other, held or not, `(B,)` bool."""
    away = offset(state, goal)
    return (away[:, :2].norm(dim=1) < ASIDE) & (away[:, 2].abs() < FLAT)


def expert(state: SceneState, goal: Goal) -> Waypoint:
    """Carry the block over the other one, set it down and let go."""
    place = place_pos(state, goal)
    above = torch.cat([state.tcp_pos[:, :2], place[:, 2:] + HOVER - HALF], 1)
    return let_go(state, carry(state, goal, place, precision=0.01), stacked(state, goal), above)


TASK = Task(
    name="stack",
    scene=BLOCKS,
    horizon=120,
    start=start,
    rewards={
        "near": Reward(0.5, lambda state, goal: near(target_distance(state, goal), 0.1)),
        "way": Reward(2.0, lambda state, goal: near(offset(state, goal).norm(dim=1), 0.15)),
        "done": Reward(2.0, lambda state, goal: stacked(state, goal).float()),
    },
    success=lambda state, goal: stacked(state, goal) & (state.opening > RELEASED),
    points=(target_pos, place_pos),
    expert=expert,
    instructions=(
        "stack the {colour} block on the {base} block",
        "put the {colour} cube on top of the {base} cube",
        "place the {colour} block on the {base} one",
    ),
    held_out=("build a tower: the {colour} cube on the {base} cube", "the {colour} block goes on top of the {base} block"),
)
