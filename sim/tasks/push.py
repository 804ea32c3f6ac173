"""Push a named block onto the mat on the named side, without grasping it."""

from __future__ import annotations

import math

import numpy as np
import torch

from sim.control import Waypoint
from sim.state import Goal, SceneState
from sim.tasks.blocks import APART, BLOCKS, COLOURS, HALF, HOVER, MAT_HALF, MATS, block_yaw, mat_pos, on_table, target_distance, target_pos
from sim.tasks.task import Reward, Start, Task, joint_offset, near, scatter

BEHIND = 0.065
"""Where the closed gripper comes down: so far behind the block's centre [m]."""
CORRIDOR = 0.09
"""Other blocks start at least so far from the way [m]."""


def start(rng: np.random.Generator) -> Start:
    """Four blocks; nothing stands between the named one and the named mat."""
    target, side = int(rng.integers(len(COLOURS))), int(rng.integers(len(MATS)))
    goal = np.array(list(MATS.values())[side])
    while True:
        points = scatter(rng, len(COLOURS), (0.4, 0.6), (-0.17, 0.17), APART)
        along = goal - points[target]
        share = np.clip(((points - points[target]) @ along) / (along @ along), -BEHIND / np.linalg.norm(along), 1)
        clearance = np.linalg.norm(points - (points[target] + share[:, None] * along), axis=1)
        clearance[target] = np.inf
        if clearance.min() >= CORRIDOR:
            break
    words = {"colour": list(COLOURS)[target], "side": list(MATS)[side]}
    none = np.zeros((0, 3))
    goals = {"target": target, "mat": side}
    return Start(joint_offset(rng), on_table(points), block_yaw(rng, len(COLOURS)), none, none[:, 0], goals, words)


def offset(state: SceneState, goal: Goal) -> torch.Tensor:
    """From the named block to the mat's centre, `(B, 2)` [m]."""
    return (mat_pos(state, goal["mat"]) - target_pos(state, goal))[:, :2]


def expert(state: SceneState, goal: Goal) -> Waypoint:
    """Come down behind the block, seen from the mat, and push it along the line to the mat's centre."""
    block, tool, way = target_pos(state, goal)[:, :2], state.tcp_pos, offset(state, goal)
    along = way / way.norm(dim=1, keepdim=True).clamp_min(1e-6)
    relative = tool[:, :2] - block
    ahead = (relative * along).sum(1, keepdim=True)
    aside = relative - ahead * along
    lined_up = (aside.norm(dim=1) < 0.012) & (ahead[:, 0] < -HALF)
    over = (relative + BEHIND * along).norm(dim=1) < 0.012
    low = tool[:, 2] < 0.035
    behind = block - BEHIND * along
    forward = torch.cat([tool[:, :2] + 0.02 * along - 0.5 * aside, torch.full_like(ahead, HALF)], 1)
    down = torch.cat([behind, torch.full_like(ahead, HALF)], 1)
    height = torch.where(over | (tool[:, 2] > HOVER - 0.04), torch.full_like(ahead[:, 0], HOVER), tool[:, 2] + 0.1)
    xy = torch.where((tool[:, 2] > HOVER - 0.04)[:, None], behind, tool[:, :2])
    above = torch.cat([xy, height[:, None]], 1)
    waypoint = torch.where((low & lined_up)[:, None], forward, torch.where(over[:, None], down, above))
    turn = torch.atan2(along[:, 1], along[:, 0])
    return Waypoint(waypoint, torch.where(turn.abs() > math.pi / 2, turn - math.pi * turn.sign(), turn), torch.zeros_like(turn))


TASK = Task(
    name="push",
    scene=BLOCKS,
    horizon=120,
    start=start,
    rewards={
        "near": Reward(0.5, lambda state, goal: near(target_distance(state, goal), 0.1)),
        "way": Reward(2.0, lambda state, goal: near(offset(state, goal).norm(dim=1), 0.15)),
    },
    success=lambda state, goal: offset(state, goal).abs().amax(1) < MAT_HALF - HALF,
    points=(target_pos, lambda state, goal: mat_pos(state, goal["mat"])),
    expert=expert,
    instructions=(
        "push the {colour} block to the {side}",
        "slide the {colour} block onto the {side} mat",
        "move the {colour} cube to the {side}",
    ),
    held_out=("shove the {colour} cube over to the {side} mat", "the {colour} block belongs on the {side}: push it there"),
)
