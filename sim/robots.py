"""Robots for the tabletop: a model file and what drives it, the same numbers for every backend. SI units."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ASSETS = Path(__file__).parent / "assets"


@dataclass(frozen=True)
class Robot:
    """An arm with a parallel gripper; its base stands at the world's origin, x points over the table, z up."""

    name: str
    """Also the embodiment id of policies."""
    model: Path
    """MJCF file: bodies, joints and shapes, without actuators."""
    joints: tuple[str, ...]
    """Arm joints in the order of policies and commands."""
    home: tuple[float, ...]
    """Where episodes start [rad]."""
    stiffness: tuple[float, ...]
    """Of the position servo of each arm joint [N·m/rad]."""
    damping: tuple[float, ...]
    """[N·m·s/rad]."""
    effort: tuple[float, ...]
    """Limit of each arm joint [N·m]."""
    velocity: tuple[float, ...]
    """Limit of each arm joint's command [rad/s]."""
    fingers: tuple[str, ...]
    """Finger joints, 0 when closed."""
    finger_travel: float
    """Coordinate of each finger joint when open [m]."""
    finger_stiffness: float
    """[N/m]."""
    finger_damping: float
    """[N·s/m]."""
    finger_effort: float
    """[N]."""
    hand: str
    """Body that carries the tool."""
    tcp: tuple[float, float, float]
    """Tool centre point in the hand's frame [m]: between the finger tips; the hand's z axis points out of the tool."""


ARM7 = Robot(
    name="arm7",
    model=ASSETS / "arm7.xml",
    joints=tuple(f"joint{i}" for i in range(1, 8)),
    home=(0.0, -0.1, 0.0, -2.3, 0.0, 2.2, 0.785),
    stiffness=(400.0,) * 7,
    damping=(40.0,) * 7,
    effort=(87.0,) * 4 + (30.0,) * 3,
    velocity=(2.0,) * 4 + (2.5,) * 3,
    fingers=("finger_left", "finger_right"),
    finger_travel=0.04,
    finger_stiffness=800.0,
    finger_damping=40.0,
    finger_effort=30.0,
    hand="hand",
    tcp=(0.0, 0.0, 0.1034),
)

ROBOTS: dict[str, Robot] = {ARM7.name: ARM7}
