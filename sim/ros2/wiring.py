"""What the simulated robot takes from a robot profile: names, topics, rates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ControllerKind = Literal["joint_trajectory", "forward_command"]


@dataclass(frozen=True)
class ControllerWiring:
    """One controller."""

    kind: ControllerKind
    topic: str
    joints: tuple[str, ...]


@dataclass(frozen=True)
class Wiring:
    """One robot on the graph."""

    name: str
    """Embodiment, also the namespace of the node."""
    joints: tuple[str, ...]
    """Names in JointState messages: the arm's joints, then the gripper."""
    state_topic: str
    controllers: tuple[ControllerWiring, ...]
    """Together they move every coordinate, in the order of `joints`."""
    image_topics: dict[str, str]
    """By camera preset."""
    state_hz: float
    tick_hz: float
    """Commands per second: one tick in lockstep."""
