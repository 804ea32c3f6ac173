"""Press a named button, among others."""

from __future__ import annotations

import numpy as np
import torch

from sim.control import Waypoint
from sim.scene import Fixture, Rgb, Scene, Shape
from sim.state import Goal, SceneState, chosen
from sim.tasks.blocks import COLOURS, block, block_yaw, on_table
from sim.tasks.task import Reward, Start, Task, joint_offset, near, scatter

TRAVEL = 0.015
"""Of the plunger [m]."""
PRESSED = 0.01
"""Success when pressed further than this [m]."""
RADIUS = 0.026
"""Of the plunger [m]."""
HOUSING, WALL, EDGE = 0.036, 0.003, 0.03
"""Half width of the housing, half thickness and height of its walls [m]."""
TOP = 0.045
"""Height of the plunger's face when nothing presses it [m]."""
TIP = 0.009
"""From the tool centre point to the finger tips [m]."""
MASS, STIFFNESS = 0.02, 300.0
"""Of the plunger [kg] and of its spring [N/m]."""
REST = MASS * 9.81 / STIFFNESS
"""How far the plunger's own weight presses it [m]."""
GREY: Rgb = (0.35, 0.36, 0.4)
CLUTTER = ("red", "blue")
"""Blocks that lie beside the buttons."""


def button(name: str) -> Fixture:
    """A round plunger on a spring in a square housing."""
    shift, half = HOUSING - WALL, EDGE / 2
    along, across = (HOUSING, WALL, half), (WALL, HOUSING - 2 * WALL, half)
    walls = [Shape("box", along, GREY, (0.0, side * shift, half)) for side in (1, -1)]
    walls += [Shape("box", across, GREY, (side * shift, 0.0, half)) for side in (1, -1)]
    bottom = TRAVEL + 0.002
    plunger = Shape("cylinder", (RADIUS, (TOP - bottom) / 2, 0.0), COLOURS[name], (0.0, 0.0, (TOP + bottom) / 2))
    return Fixture(
        name=f"{name}_button",
        base=tuple(walls),
        moving=(plunger,),
        joint="slide",
        axis=(0.0, 0.0, -1.0),
        range=(0.0, TRAVEL),
        damping=4.0,
        resistance=0.4,
        mass=MASS,
        stiffness=STIFFNESS,
    )


SCENE = Scene(name="buttons", bodies=tuple(block(name) for name in CLUTTER), fixtures=tuple(button(name) for name in COLOURS))


def start(rng: np.random.Generator) -> Start:
    """Four buttons anywhere, one of them named, and a block on either side."""
    target = int(rng.integers(len(COLOURS)))
    points = scatter(rng, len(COLOURS), (0.4, 0.62), (-0.19, 0.19), apart=0.12)
    buttons = np.column_stack([points, np.zeros(len(points))])
    blocks = np.stack([rng.uniform(0.42, 0.6, 2), rng.uniform(0.27, 0.33, 2) * [1.0, -1.0]], 1)
    words = {"colour": list(COLOURS)[target]}
    return Start(joint_offset(rng), on_table(blocks), block_yaw(rng, 2), buttons, np.full(len(buttons), REST), {"target": target}, words)


def face_pos(state: SceneState, goal: Goal) -> torch.Tensor:
    """Middle of the named button's face, `(B, 3)`."""
    base, pressed = chosen(state.fixture_pos, goal["target"]), chosen(state.fixture, goal["target"])
    return base + torch.stack([torch.zeros_like(pressed), torch.zeros_like(pressed), TOP - pressed], 1)


def success(state: SceneState, goal: Goal) -> torch.Tensor:
    """The named button is down, and no other one."""
    down = state.fixture > PRESSED
    return chosen(down, goal["target"]) & (down.sum(1) == 1)


def expert(state: SceneState, goal: Goal) -> Waypoint:
    """Go above the button with closed fingers, then down."""
    face, tool = face_pos(state, goal), state.tcp_pos
    over = (tool - face)[:, :2].norm(dim=1) < 0.01
    height = torch.where(over, face[:, 2] + TIP - 0.02, torch.full_like(face[:, 2], TOP + 0.05))
    zero = torch.zeros_like(height)
    return Waypoint(torch.cat([face[:, :2], height[:, None]], 1), zero, zero)


TASK = Task(
    name="button",
    scene=SCENE,
    horizon=60,
    start=start,
    rewards={
        "near": Reward(1.0, lambda state, goal: near((state.tcp_pos - face_pos(state, goal)).norm(dim=1), 0.1)),
        "pressed": Reward(2.0, lambda state, goal: chosen(state.fixture, goal["target"]).clamp(0, TRAVEL) / TRAVEL),
    },
    success=success,
    points=(face_pos,),
    expert=expert,
    instructions=("press the {colour} button", "push down the {colour} button", "press the button that is {colour}"),
    held_out=("hit the {colour} button", "the {colour} button needs to be pushed"),
)
