"""Slide a named lever, among others, to the named end of its rail."""

from __future__ import annotations

import numpy as np
import torch

from sim.control import Waypoint
from sim.scene import Fixture, Rgb, Scene, Shape
from sim.state import Goal, SceneState, chosen, turned
from sim.tasks.blocks import COLOURS, block, block_yaw, on_table
from sim.tasks.task import Reward, Start, Task, joint_offset, near

TRAVEL = 0.08
"""From the middle of the rail to either end [m]."""
END = 0.065
"""Success when further from the middle than this [m]."""
GRIP = (0.016, 0.018, 0.03)
"""Half lengths of the knob [m]."""
RAIL = 0.012
"""Height of the rail [m]."""
KNOB = 0.05
"""Height of the knob's centre [m]."""
SQUEEZE = 0.37
"""Gripper opening command that squeezes the knob, which is 0.45 wide in these units."""
NAMES = tuple(COLOURS)[:3]
"""From near the robot to far."""
SIDES = {"left": 1.0, "right": -1.0}
"""Ends of the rails along y, as seen from the robot."""
GREY: Rgb = (0.35, 0.36, 0.4)


def lever(name: str) -> Fixture:
    """A knob on a rail along y; the joint's coordinate grows to the left."""
    length = TRAVEL + 0.025
    return Fixture(
        name=f"{name}_lever",
        base=(Shape("box", (0.016, length, RAIL / 2), GREY, (0.0, 0.0, RAIL / 2)),),
        moving=(Shape("box", GRIP, COLOURS[name], (0.0, 0.0, KNOB)),),
        joint="slide",
        axis=(0.0, 1.0, 0.0),
        range=(-TRAVEL, TRAVEL),
        damping=4.0,
        resistance=1.0,
        mass=0.2,
    )


SCENE = Scene(name="levers", bodies=(block("yellow"), block("blue")), fixtures=tuple(lever(name) for name in NAMES))


def start(rng: np.random.Generator) -> Start:
    """Three rails behind one another, their knobs near the middle, a block on either side."""
    target, side = int(rng.integers(len(NAMES))), int(rng.integers(len(SIDES)))
    x = np.array([0.4, 0.5, 0.6]) + rng.uniform(-0.015, 0.015, 3)
    rails = np.column_stack([x, rng.uniform(-0.07, 0.07, 3), np.zeros(3)])
    blocks = np.stack([rng.uniform(0.42, 0.6, 2), rng.uniform(0.27, 0.33, 2) * [1.0, -1.0]], 1)
    words = {"colour": NAMES[target], "side": list(SIDES)[side]}
    goals = {"target": target, "side": side}
    return Start(joint_offset(rng), on_table(blocks), block_yaw(rng, 2), rails, rng.uniform(-0.03, 0.03, 3), goals, words)


def knob_pos(state: SceneState, goal: Goal) -> torch.Tensor:
    """Centre of the named lever's knob, `(B, 3)`."""
    rail, slid = chosen(state.fixture_pos, goal["target"]), chosen(state.fixture, goal["target"])
    return rail + torch.stack([torch.zeros_like(slid), slid, torch.full_like(slid, KNOB)], 1)


def direction(state: SceneState, goal: Goal) -> torch.Tensor:
    """Of the named end along y, 1 or -1, `(B,)`."""
    return torch.tensor(list(SIDES.values())).to(state.fixture)[goal["side"]]


def slid(state: SceneState, goal: Goal) -> torch.Tensor:
    """How far the named lever is from the middle towards the named end, `(B,)` [m]."""
    return chosen(state.fixture, goal["target"]) * direction(state, goal)


def expert(state: SceneState, goal: Goal) -> Waypoint:
    """Straddle the knob from above, close, and slide it."""
    knob, tool = knob_pos(state, goal), state.tcp_pos
    straight = torch.zeros_like(tool[:, 0])
    over = ((tool - knob)[:, :2].abs().amax(1) < 0.012) & turned(state, straight)
    down = tool[:, 2] < knob[:, 2] + 0.012
    grasped = over & down & (state.opening < 0.55)
    drive = torch.stack([knob[:, 0], tool[:, 1] + 0.03 * direction(state, goal), knob[:, 2]], 1)
    above = torch.stack([knob[:, 0], knob[:, 1], knob[:, 2] + 0.08], 1)
    waypoint = torch.where(grasped[:, None], drive, torch.where(over[:, None], knob, above))
    return Waypoint(waypoint, straight, torch.where(over & down, SQUEEZE, 1.0).to(tool))


TASK = Task(
    name="lever",
    scene=SCENE,
    horizon=80,
    start=start,
    rewards={
        "near": Reward(0.5, lambda state, goal: near((state.tcp_pos - knob_pos(state, goal)).norm(dim=1), 0.1)),
        "way": Reward(2.0, lambda state, goal: (slid(state, goal) / TRAVEL + 1) / 2),
    },
    success=lambda state, goal: slid(state, goal) > END,
    points=(knob_pos,),
    expert=expert,
    instructions=(
        "slide the {colour} lever to the {side}",
        "move the {colour} lever all the way to the {side}",
        "push the {colour} slider to the {side} end",
    ),
    held_out=("set the {colour} slider to the {side}", "the {colour} lever should be at its {side} end"),
)
