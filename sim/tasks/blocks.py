"""The scene of four coloured blocks and two mats, and what tasks with blocks share: where they start, how one is grasped."""

from __future__ import annotations

import math

import numpy as np
import torch

from sim.control import Waypoint
from sim.scene import Body, Rgb, Scene, Shape
from sim.state import Goal, SceneState, chosen, tool_yaw, wrap, yaw

COLOURS: dict[str, Rgb] = {
    "red": (0.85, 0.1, 0.1),
    "green": (0.1, 0.65, 0.2),
    "blue": (0.12, 0.25, 0.85),
    "yellow": (0.95, 0.8, 0.1),
}
HALF = 0.02
"""Half the edge of a block [m]."""
HOVER = 0.13
"""Height at which the tool travels over the table [m]."""
HOLD = 0.42
"""Gripper opening command that squeezes a block, which is 0.5 wide in these units."""
RELEASED = 0.6
"""Gripper opening above which no block is held."""
BETWEEN = 0.019
"""How far from the middle between open fingers a block may be: closing, they push it there [m]."""
ALONG = 0.014
"""How far from the middle of the fingers' pads, along them, a block may be held [m]."""
TWIST = 0.35
"""How far from parallel to a block's faces fingers that stand around it may be: closing, they turn it [rad]."""
AROUND = 0.06
"""Height over a block's centre from which on the fingers stand around it [m]."""
APART = 0.11
"""Least distance between blocks at the start: open fingers fit between them [m]."""
REGION = ((0.38, 0.62), (-0.2, 0.2))
"""x and y where blocks start [m]."""

MATS: dict[str, tuple[float, float]] = {"left": (0.5, 0.32), "right": (0.5, -0.32)}
"""Centres of the mats; left and right as seen from the robot [m]."""
MAT_HALF = 0.08


def block(name: str) -> Body:
    """A wooden cube."""
    return Body(name, (Shape("box", (HALF, HALF, HALF), COLOURS[name]),), mass=0.05)


BLOCKS = Scene(
    name="blocks",
    bodies=tuple(block(name) for name in COLOURS),
    mats=(
        Shape("box", (MAT_HALF, MAT_HALF, 0.001), (0.95, 0.55, 0.15), (*MATS["left"], 0.0)),
        Shape("box", (MAT_HALF, MAT_HALF, 0.001), (0.55, 0.2, 0.6), (*MATS["right"], 0.0)),
    ),
)


def on_table(points: np.ndarray) -> np.ndarray:
    """Block centres `(M, 3)` at table points `(M, 2)`."""
    return np.column_stack([points, np.full(len(points), HALF)])


def block_yaw(rng: np.random.Generator, count: int) -> np.ndarray:
    """Any orientation that looks different, `(count,)` [rad]."""
    return rng.uniform(-math.pi / 4, math.pi / 4, count)


def target_pos(state: SceneState, goal: Goal) -> torch.Tensor:
    """Centre of the named block, `(B, 3)`."""
    return chosen(state.body_pos, goal["target"])


def mat_pos(state: SceneState, mat: torch.Tensor) -> torch.Tensor:
    """Centres of mats `(B,)` on the table, `(B, 3)`."""
    centres = torch.tensor([[*centre, 0.0] for centre in MATS.values()]).to(state.tcp_pos)
    return centres[mat]


def target_distance(state: SceneState, goal: Goal) -> torch.Tensor:
    """Between tool and named block, `(B,)` [m]."""
    return (state.tcp_pos - target_pos(state, goal)).norm(dim=1)


def grasp_yaw(state: SceneState, goal: Goal) -> torch.Tensor:
    """Tool yaw that closes the fingers on two faces of the named block, the nearest to the tool's `(B,)`."""
    tool = tool_yaw(state)
    return tool + wrap(yaw(chosen(state.body_quat, goal["target"])) - tool, math.pi / 2)


def grasp_error(state: SceneState, goal: Goal) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Distances of the named block's centre from the tool: along the fingers' pads, along their way, and up, each `(B,)` [m]."""
    x, y, z = (target_pos(state, goal) - state.tcp_pos).unbind(1)
    cos, sin = tool_yaw(state).cos(), tool_yaw(state).sin()
    return (cos * x + sin * y).abs(), (cos * y - sin * x).abs(), z.abs()


def holding(state: SceneState, goal: Goal) -> torch.Tensor:
    """Whether the named block is between closed fingers, `(B,)` bool."""
    along, between, height = grasp_error(state, goal)
    return (along < 0.022) & (between < 0.022) & (height < 0.022) & (state.opening > 0.435) & (state.opening < 0.56)


def carry(state: SceneState, goal: Goal, destination: torch.Tensor, hover: float = HOVER, precision: float = 0.02) -> Waypoint:
    """Grasp the named block from above, then take it to `destination` `(B, 3)`, the tool's position there.

    The phases follow from the state: go above the block, down with open fingers, close, then up and across. It goes down
    from where it is exactly above, but does not start anew for an error that closing fingers forgive, which a policy that
    learns from what it says cannot see.

    Args:
        state: of the scene.
        goal: names the block as "target".
        destination: the tool's position at the end [m].
        hover: height at which the tool travels over the table [m].
        precision: how near the tool must be to the destination in the plane before it goes down there [m].
    """
    block, tool, turn = target_pos(state, goal), state.tcp_pos, grasp_yaw(state, goal)
    along, between, height = grasp_error(state, goal)
    twist, held = (turn - tool_yaw(state)).abs(), holding(state, goal)
    over = (torch.hypot(along, between) < 0.01) & (twist < 0.1)
    around = (height < AROUND) & (between < BETWEEN) & (along < 0.045) & (twist < TWIST)
    ready = around & (height < 0.015) & (along < ALONG)
    above = torch.cat([block[:, :2], block[:, 2:] + hover - HALF], 1)
    grasp = torch.where((over | around)[:, None], block, above)
    across = (tool[:, :2] - destination[:, :2]).norm(dim=1) > precision
    rising = across & (tool[:, 2] < hover - 0.04)
    xy = torch.where(rising[:, None], tool[:, :2], destination[:, :2])
    carried = torch.cat([xy, torch.where(across, hover, destination[:, 2])[:, None]], 1)
    opening = torch.where(held | ready, HOLD, 1.0).to(tool)
    return Waypoint(torch.where(held[:, None], carried, grasp), turn, opening)


def let_go(state: SceneState, waypoint: Waypoint, there: torch.Tensor, away: torch.Tensor) -> Waypoint:
    """Where the block is `there` `(B,)` bool, open the fingers, then move to `away` `(B, 3)`; elsewhere `waypoint`."""
    leave = torch.where((state.opening > RELEASED)[:, None], away, state.tcp_pos)
    tool = torch.where(there[:, None], leave, waypoint.tool)
    return Waypoint(tool, waypoint.yaw, torch.where(there, torch.ones_like(waypoint.opening), waypoint.opening))
