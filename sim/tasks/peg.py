"""Insert a peg into a named hole, among others."""

from __future__ import annotations

import numpy as np
import torch

from sim.control import Waypoint
from sim.scene import Body, Rgb, Scene, Shape
from sim.state import Goal, SceneState, chosen, rotation_matrix
from sim.tasks.blocks import COLOURS, HALF, RELEASED, carry, let_go
from sim.tasks.task import Reward, Start, Task, joint_offset, near, scatter

SHAFT, LENGTH = 0.014, 0.05
"""Radius and length of the peg's round shaft [m]."""
HEAD = LENGTH + HALF
"""Height of the head's centre over the shaft's end: the peg's head is as wide as a block [m]."""
HOLE = 0.022
"""Half width of the square hole: the shaft has 8 mm to spare on every side [m]."""
OUTER, PLATE, RIM = 0.042, 0.006, 0.044
"""Half width of a socket, thickness of its plate, height of its rim [m]."""
TRAVEL = 0.19
"""Height at which the tool travels: the shaft stays above the rims [m]."""
PRECISION = 0.004
"""How near the peg must be to the hole's axis before it is lowered [m]."""
LOWER = 0.03
"""How far the tool is sent below where it is while the peg is lowered: less than its full speed [m]."""
PEG = 3
"""Body after the three sockets."""
NAMES = tuple(COLOURS)[:3]
IVORY: Rgb = (0.95, 0.92, 0.85)


def peg() -> Body:
    """A square head on a round shaft; its frame is the head's centre."""
    head = Shape("box", (HALF, HALF, HALF), IVORY)
    shaft = Shape("cylinder", (SHAFT, LENGTH / 2, 0.0), IVORY, (0.0, 0.0, -HALF - LENGTH / 2))
    return Body("peg", (head, shaft), mass=0.08)


def socket(name: str) -> Body:
    """A heavy block with a hole down to its plate, on which alone it stands."""
    middle, half = (OUTER + HOLE) / 2, (OUTER - HOLE) / 2
    height, centre = (RIM - PLATE) / 2, (RIM + PLATE) / 2
    colour = COLOURS[name]
    walls = [Shape("box", (OUTER, half, height), colour, (0.0, side * middle, centre)) for side in (1, -1)]
    walls += [Shape("box", (half, HOLE, height), colour, (side * middle, 0.0, centre)) for side in (1, -1)]
    plate = Shape("box", (OUTER, OUTER, PLATE / 2), (0.1, 0.1, 0.1), (0.0, 0.0, PLATE / 2))
    return Body(f"{name}_socket", (plate, *walls), mass=1.5)


SCENE = Scene(name="sockets", bodies=(*(socket(name) for name in NAMES), peg()))


def start(rng: np.random.Generator) -> Start:
    """Three sockets, one of them named, and the peg upright to the left or right of them."""
    target, side = int(rng.integers(len(NAMES))), rng.choice([-1.0, 1.0])
    sockets = scatter(rng, len(NAMES), (0.42, 0.6), (-0.06, 0.2), 0.13) * [1.0, side]
    stand = [rng.uniform(0.42, 0.58), -side * rng.uniform(0.19, 0.27)]
    places = np.column_stack([np.vstack([sockets, stand]), [0.0] * len(NAMES) + [HEAD]])
    none, words = np.zeros((0, 3)), {"colour": NAMES[target]}
    return Start(joint_offset(rng), places, np.append(np.zeros(3), rng.uniform(-0.5, 0.5)), none, none[:, 0], {"target": target}, words)


def hole_pos(state: SceneState, goal: Goal) -> torch.Tensor:
    """Where the peg's head is when it stands in the named hole, `(B, 3)`."""
    return chosen(state.body_pos, goal["target"]) + torch.tensor([0.0, 0.0, PLATE + HEAD]).to(state.body_pos)


def offset(state: SceneState, goal: Goal) -> torch.Tensor:
    """From the peg's head to where it belongs, `(B, 3)` [m]."""
    return hole_pos(state, goal) - state.body_pos[:, PEG]


def end_pos(state: SceneState) -> torch.Tensor:
    """Of the peg's shaft, `(B, 3)`."""
    return state.body_pos[:, PEG] - HEAD * rotation_matrix(state.body_quat[:, PEG])[:, :, 2]


def upright(state: SceneState) -> torch.Tensor:
    """Cosine of the peg's tilt, `(B,)`."""
    return rotation_matrix(state.body_quat[:, PEG])[:, 2, 2]


def inserted(state: SceneState, goal: Goal) -> torch.Tensor:
    """Whether the peg stands in the hole, held or not, `(B,)` bool."""
    away = offset(state, goal)
    return (away[:, :2].norm(dim=1) < HOLE) & (away[:, 2].abs() < 0.01) & (upright(state) > 0.9)


def expert(state: SceneState, goal: Goal) -> Waypoint:
    """Grasp the head, take the shaft's end over the hole, lower it, set the peg upright in the hole and let go."""
    tool, error = state.tcp_pos, offset(state, goal)
    aim = (hole_pos(state, goal) - end_pos(state))[:, :2]
    inside = (aim.abs().amax(1) < HOLE) & (error[:, 2] > PLATE - RIM)
    little = error[:, :2] / (error[:, :2].norm(dim=1, keepdim=True) / (0.8 * PRECISION)).clamp_min(1)  # near enough to go on down
    aside = torch.where(inside[:, None], little, aim)
    below = (error[:, 2:] + 0.003).clamp_min(-LOWER)
    held = {"target": torch.full_like(goal["target"], PEG)}
    away = torch.cat([tool[:, :2], tool[:, 2:] + 0.05], 1)
    return let_go(state, carry(state, held, tool + torch.cat([aside, below], 1), TRAVEL, PRECISION), inserted(state, goal), away)


TASK = Task(
    name="peg",
    scene=SCENE,
    horizon=150,
    start=start,
    rewards={
        "near": Reward(0.5, lambda state, goal: near((state.tcp_pos - state.body_pos[:, PEG]).norm(dim=1), 0.1)),
        "way": Reward(2.0, lambda state, goal: near(offset(state, goal).norm(dim=1), 0.15)),
        "done": Reward(2.0, lambda state, goal: inserted(state, goal).float()),
    },
    success=lambda state, goal: inserted(state, goal) & (state.opening > RELEASED),
    points=(lambda state, goal: state.body_pos[:, PEG], hole_pos),
    expert=expert,
    instructions=("insert the peg into the {colour} hole", "put the peg in the {colour} socket", "stick the peg into the {colour} block"),
    held_out=("the peg belongs in the {colour} socket", "plug the peg into the hole of the {colour} block"),
)
