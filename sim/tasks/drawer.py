"""Open or close a drawer that stands half open; only the instruction says which."""

from __future__ import annotations

import math

import numpy as np
import torch

from sim.control import Waypoint
from sim.scene import Fixture, Scene, Shape
from sim.state import Goal, SceneState, turned
from sim.tasks.blocks import block, block_yaw, on_table
from sim.tasks.task import Reward, Start, Task, joint_offset, near

TRAVEL = 0.15
"""[m]"""
OPEN, CLOSED = 0.12, 0.02
"""Success when wider open than this, or less open than that [m]."""
HANDLE = (-0.165, 0.0, 0.06)
"""Of the closed drawer, in the frame of the cabinet: a bar along y [m]."""
BAR = 0.006
"""Half its thickness [m]."""
GREY, WOOD, DARK = (0.6, 0.62, 0.66), (0.5, 0.32, 0.18), (0.15, 0.15, 0.17)
SLIT = 0.5
"""Gripper opening on the way down: the rear finger fits between bar and drawer."""
WAYS = ("open", "close")

CABINET = Fixture(
    name="drawer",
    base=(
        Shape("box", (0.1, 0.12, 0.004), GREY, (0.0, 0.0, 0.088)),
        Shape("box", (0.1, 0.005, 0.042), GREY, (0.0, 0.115, 0.042)),
        Shape("box", (0.1, 0.005, 0.042), GREY, (0.0, -0.115, 0.042)),
        Shape("box", (0.005, 0.12, 0.042), GREY, (0.095, 0.0, 0.042)),
    ),
    moving=(
        Shape("box", (0.095, 0.1, 0.004), WOOD, (-0.01, 0.0, 0.012)),
        Shape("box", (0.005, 0.105, 0.035), WOOD, (-0.108, 0.0, 0.044)),
        Shape("box", (0.025, 0.006, 0.006), DARK, (-0.138, 0.045, 0.06)),
        Shape("box", (0.025, 0.006, 0.006), DARK, (-0.138, -0.045, 0.06)),
        Shape("box", (BAR, 0.05, BAR), DARK, HANDLE),
    ),
    joint="slide",
    axis=(-1.0, 0.0, 0.0),
    range=(0.0, TRAVEL),
    damping=4.0,
    resistance=1.0,
    mass=0.4,
)
SCENE = Scene(name="cabinet", bodies=(block("red"), block("blue")), fixtures=(CABINET,))


def start(rng: np.random.Generator) -> Start:
    """The cabinet in front of the robot, its drawer half open, a block on either side."""
    way = int(rng.integers(len(WAYS)))
    cabinet = np.array([[rng.uniform(0.66, 0.7), rng.uniform(-0.06, 0.06), 0.0]])
    points = np.stack([rng.uniform(0.4, 0.6, 2), rng.uniform(0.24, 0.32, 2) * [1.0, -1.0]], 1)
    opened = np.array([rng.uniform(0.06, 0.08)])
    return Start(joint_offset(rng), on_table(points), block_yaw(rng, 2), cabinet, opened, {"way": way}, {"way": WAYS[way]})


def handle_pos(state: SceneState) -> torch.Tensor:
    """Middle of the handle's bar, `(B, 3)`."""
    slid = torch.tensor(CABINET.axis).to(state.fixture) * state.fixture[:, :1]
    return state.fixture_pos[:, 0] + torch.tensor(HANDLE).to(state.fixture) + slid


def progress(state: SceneState, goal: Goal) -> torch.Tensor:
    """0 at the wrong end, 1 at the end that is asked for, `(B,)`."""
    share = state.fixture[:, 0] / TRAVEL
    return torch.where(goal["way"] == 0, share, 1 - share)


def success(state: SceneState, goal: Goal) -> torch.Tensor:
    """Far enough open, or closed."""
    return torch.where(goal["way"] == 0, state.fixture[:, 0] > OPEN, state.fixture[:, 0] < CLOSED)


def expert(state: SceneState, goal: Goal) -> Waypoint:
    """Straddle the bar from above with fingers along x, close, and pull or push."""
    handle, tool = handle_pos(state), state.tcp_pos
    aside = (tool[:, :2] - handle[:, :2]).abs()
    turn = torch.full_like(tool[:, 0], math.pi / 2)
    over = (aside[:, 0] < 0.01) & (aside[:, 1] < 0.03) & turned(state, turn)
    down = tool[:, 2] < handle[:, 2] + 0.015
    grasped = over & down & (state.opening < 0.35)
    direction = torch.where(goal["way"] == 0, -1.0, 1.0)
    drive = torch.stack([tool[:, 0] + 0.03 * direction, handle[:, 1], handle[:, 2]], 1)
    above = torch.stack([handle[:, 0], handle[:, 1], handle[:, 2] + 0.08], 1)
    waypoint = torch.where(grasped[:, None], drive, torch.where(over[:, None], handle, above))
    closed = torch.where(over & down, 0.05, SLIT).to(tool)
    return Waypoint(waypoint, turn, closed)


TASK = Task(
    name="drawer",
    scene=SCENE,
    horizon=100,
    start=start,
    rewards={
        "near": Reward(0.5, lambda state, goal: near((state.tcp_pos - handle_pos(state)).norm(dim=1), 0.1)),
        "way": Reward(2.0, progress),
    },
    success=success,
    points=(lambda state, goal: handle_pos(state),),
    expert=expert,
    instructions=("{way} the drawer", "please {way} the drawer", "{way} the drawer of the cabinet"),
    held_out=("{way} the cabinet's drawer all the way", "use the handle to {way} the drawer"),
)
