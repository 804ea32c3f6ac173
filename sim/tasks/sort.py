"""Take two named blocks to the mats, each to the one that the instruction gives it."""

from __future__ import annotations

import numpy as np
import torch

from sim.control import Waypoint
from sim.state import Goal, SceneState, chosen
from sim.tasks.blocks import APART, BLOCKS, COLOURS, HALF, HOVER, MAT_HALF, MATS, RELEASED, block_yaw, carry, let_go, mat_pos, on_table
from sim.tasks.task import Reward, Start, Task, joint_offset, near, scatter

REGION = ((0.4, 0.6), (-0.15, 0.15))
"""x and y where blocks start, between the mats [m]."""
CLEAR = 0.06
"""The tool leaves a block upwards while it is nearer than this in the plane [m]."""


def start(rng: np.random.Generator) -> Start:
    """Four blocks between the mats, two of them named."""
    first, second = (int(i) for i in rng.choice(len(COLOURS), 2, replace=False))
    mat = int(rng.integers(len(MATS)))
    points = scatter(rng, len(COLOURS), *REGION, apart=APART)
    colours, sides, none = list(COLOURS), list(MATS), np.zeros((0, 3))
    words = {"first": colours[first], "second": colours[second], "side": sides[mat], "other": sides[1 - mat]}
    goals = {"first": first, "second": second, "mat": mat}
    return Start(joint_offset(rng), on_table(points), block_yaw(rng, len(COLOURS)), none, none[:, 0], goals, words)


def offset(state: SceneState, block: torch.Tensor, mat: torch.Tensor) -> torch.Tensor:
    """From blocks `(B,)` to the centres of mats `(B,)`, `(B, 2)` [m]."""
    return (mat_pos(state, mat) - chosen(state.body_pos, block))[:, :2]


def lies(state: SceneState, block: torch.Tensor, mat: torch.Tensor) -> torch.Tensor:
    """Whether blocks `(B,)` stand on mats `(B,)`, held or not, `(B,)` bool."""
    low = chosen(state.body_pos, block)[:, 2] < HALF + 0.01
    return low & (offset(state, block, mat).abs().amax(1) < MAT_HALF - HALF)


def success(state: SceneState, goal: Goal) -> torch.Tensor:
    """Both blocks stand where they belong and the gripper has let go."""
    first, second = lies(state, goal["first"], goal["mat"]), lies(state, goal["second"], 1 - goal["mat"])
    return first & second & (state.opening > RELEASED)


def expert(state: SceneState, goal: Goal) -> Waypoint:
    """Carry one block to its mat and leave it, then the other."""
    tool = state.tcp_pos
    rest = chosen(state.body_pos, goal["first"])
    leaving = ((tool - rest)[:, :2].norm(dim=1) < CLEAR) & (tool[:, 2] < HOVER - 0.04)
    first = ~lies(state, goal["first"], goal["mat"]) | leaving
    block = torch.where(first, goal["first"], goal["second"])
    mat = torch.where(first, goal["mat"], 1 - goal["mat"])
    there = mat_pos(state, mat)[:, :2]
    down = torch.cat([there, torch.full_like(tool[:, 2:], HALF + 0.004)], 1)
    up = torch.cat([tool[:, :2], torch.full_like(tool[:, 2:], HOVER)], 1)
    return let_go(state, carry(state, {"target": block}, down), lies(state, block, mat), up)


def way(state: SceneState, goal: Goal) -> torch.Tensor:
    """How near both blocks are to their mats, from 0 to 1, `(B,)`."""
    first, second = offset(state, goal["first"], goal["mat"]), offset(state, goal["second"], 1 - goal["mat"])
    return (near(first.norm(dim=1), 0.15) + near(second.norm(dim=1), 0.15)) / 2


def done(state: SceneState, goal: Goal) -> torch.Tensor:
    """Share of the two blocks that stand where they belong, `(B,)`."""
    return (lies(state, goal["first"], goal["mat"]).float() + lies(state, goal["second"], 1 - goal["mat"]).float()) / 2


def reach(state: SceneState, goal: Goal) -> torch.Tensor:
    """From the tool to the next block that is not where it belongs, `(B,)` [m]."""
    block = torch.where(lies(state, goal["first"], goal["mat"]), goal["second"], goal["first"])
    return (state.tcp_pos - chosen(state.body_pos, block)).norm(dim=1)


TASK = Task(
    name="sort",
    scene=BLOCKS,
    horizon=200,
    start=start,
    rewards={
        "near": Reward(0.5, lambda state, goal: near(reach(state, goal), 0.1)),
        "way": Reward(2.0, way),
        "done": Reward(2.0, done),
    },
    success=success,
    points=(
        lambda state, goal: chosen(state.body_pos, goal["first"]),
        lambda state, goal: mat_pos(state, goal["mat"]),
        lambda state, goal: chosen(state.body_pos, goal["second"]),
        lambda state, goal: mat_pos(state, 1 - goal["mat"]),
    ),
    expert=expert,
    instructions=(
        "put the {first} block on the {side} mat and the {second} block on the {other} mat",
        "sort the blocks: {first} to the {side}, {second} to the {other}",
        "place the {first} cube on the {side} and the {second} cube on the {other}",
    ),
    held_out=(
        "the {first} block belongs on the {side} mat, the {second} one on the {other} mat",
        "tidy up: {first} cube {side}, {second} cube {other}",
    ),
)
