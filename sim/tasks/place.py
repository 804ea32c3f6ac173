"""Put a named block, among others, into a bowl."""

from __future__ import annotations

import math

import numpy as np
import torch

from sim.control import Waypoint
from sim.scene import Body, Scene, Shape
from sim.state import Goal, SceneState
from sim.tasks.blocks import APART, COLOURS, HALF, HOVER, RELEASED, block, block_yaw, carry, let_go, on_table, target_distance, target_pos
from sim.tasks.task import Reward, Start, Task, joint_offset, near, scatter

RADIUS = 0.065
"""Of the bowl, to its wall [m]."""
WALL = 0.025
"""Height of the wall [m]."""
SIDES = 10
NAMES = tuple(COLOURS)[:3]
"""Blocks of this scene."""
DISH = len(NAMES)
"""The bowl among its bodies."""
WHITE = (0.92, 0.92, 0.9)


def bowl() -> Body:
    """A flat dish with a polygonal wall."""
    floor = Shape("cylinder", (RADIUS, 0.004, 0.0), WHITE, (0.0, 0.0, 0.004))
    width = RADIUS * math.tan(math.pi / SIDES) + 0.003
    walls = []
    for side in range(SIDES):
        angle = 2 * math.pi * side / SIDES
        place = (RADIUS * math.cos(angle), RADIUS * math.sin(angle), WALL / 2)
        walls.append(Shape("box", (0.004, width, WALL / 2), WHITE, place, angle))
    return Body("bowl", (floor, *walls), mass=0.4)


BOWL = Scene(name="bowl", bodies=(*(block(name) for name in NAMES), bowl()))


def start(rng: np.random.Generator) -> Start:
    """Three blocks, one of them named, and the bowl to the left or right of them."""
    target, side = int(rng.integers(len(NAMES))), rng.choice([-1.0, 1.0])
    points = scatter(rng, len(NAMES), (0.4, 0.6), (-0.08, 0.2), APART) * [1.0, side]
    dish = np.array([[rng.uniform(0.42, 0.58), -side * rng.uniform(0.23, 0.3), 0.0]])
    none, words = np.zeros((0, 3)), {"colour": NAMES[target]}
    places = np.concatenate([on_table(points), dish])
    return Start(joint_offset(rng), places, np.append(block_yaw(rng, 3), 0.0), none, none[:, 0], {"target": target}, words)


def offset(state: SceneState, goal: Goal) -> torch.Tensor:
    """From the named block to the bowl's centre in the plane, `(B,)` [m]."""
    return (state.body_pos[:, DISH, :2] - target_pos(state, goal)[:, :2]).norm(dim=1)


def success(state: SceneState, goal: Goal) -> torch.Tensor:
    """The block rests in the bowl and the gripper has let go."""
    inside = (offset(state, goal) < RADIUS - HALF / 2) & (target_pos(state, goal)[:, 2] < HALF + 0.02)
    return inside & (state.opening > RELEASED)


def expert(state: SceneState, goal: Goal) -> Waypoint:
    """Carry the block over the bowl and let go a little above it."""
    centre = state.body_pos[:, DISH]
    drop = torch.stack([centre[:, 0], centre[:, 1], torch.full_like(centre[:, 2], 0.07)], 1)
    waypoint = carry(state, goal, drop)
    over = (offset(state, goal) < 0.025) & (state.tcp_pos[:, 2] < 0.085)
    release = over | ((offset(state, goal) < RADIUS) & (target_pos(state, goal)[:, 2] < HALF + 0.02))
    up = torch.stack([centre[:, 0], centre[:, 1], torch.full_like(centre[:, 2], HOVER)], 1)
    return let_go(state, waypoint, release, up)


TASK = Task(
    name="place",
    scene=BOWL,
    horizon=120,
    start=start,
    rewards={
        "near": Reward(0.5, lambda state, goal: near(target_distance(state, goal), 0.1)),
        "way": Reward(2.0, lambda state, goal: near(offset(state, goal), 0.15)),
        "done": Reward(2.0, lambda state, goal: success(state, goal).float()),
    },
    success=success,
    points=(target_pos, lambda state, goal: state.body_pos[:, DISH]),
    expert=expert,
    instructions=("put the {colour} block into the bowl", "place the {colour} cube in the bowl", "drop the {colour} block into the dish"),
    held_out=("the {colour} cube goes in the bowl", "fetch the {colour} block and leave it in the dish"),
)
