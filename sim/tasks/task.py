"""What a tabletop task is: numbers and functions of a batched scene state, without a physics engine.

B environments
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch

from sim.control import Waypoint
from sim.scene import Scene
from sim.state import Goal, SceneState

Paraphrases = Literal["train", "held_out"]


@dataclass(frozen=True)
class Start:
    """The initial state of one episode; the robot starts at home, moved by `joint_offset`."""

    joint_offset: np.ndarray
    """`(7,)` [rad]; an arm with fewer joints takes the first of them, so that a seed is one scene for every robot."""
    body_pos: np.ndarray
    """`(M, 3)` [m]."""
    body_yaw: np.ndarray
    """`(M,)` [rad]."""
    fixture_pos: np.ndarray
    """`(F, 3)` [m]."""
    fixture: np.ndarray
    """`(F,)` joint coordinates."""
    goal: Mapping[str, int | float]
    """What the episode is about."""
    words: dict[str, str] = field(default_factory=dict)
    """What fills the gaps of the instruction."""


@dataclass(frozen=True)
class Reward:
    """One term of the dense reward."""

    weight: float
    term: Callable[[SceneState, Goal], torch.Tensor]
    """`(B,)`, about 0 to 1."""


@dataclass(frozen=True)
class Task:
    """One task of the suite."""

    name: str
    scene: Scene
    horizon: int
    """Control steps after which an episode is truncated."""
    start: Callable[[np.random.Generator], Start]
    """Draws an initial state; the same generator state gives the same one in every backend."""
    rewards: dict[str, Reward]
    success: Callable[[SceneState, Goal], torch.Tensor]
    """`(B,)` bool."""
    points: tuple[Callable[[SceneState, Goal], torch.Tensor], ...]
    """Places that the episode is about, `(B, 3)` each [m]: the privileged state has them as seen from the tool."""
    expert: Callable[[SceneState, Goal], Waypoint]
    """Where a scripted expert wants the tool, from the present state alone."""
    instructions: tuple[str, ...]
    """Phrasings for training, with gaps such as {colour}."""
    held_out: tuple[str, ...]
    """Phrasings never trained on."""

    def draw(self, seed: int) -> Start:
        """The initial state of a seed."""
        return self.start(np.random.default_rng([seed, 0]))

    def instruction(self, start: Start, seed: int, paraphrases: Paraphrases) -> str:
        """The phrasing of an episode's seed, its gaps filled."""
        choices = self.instructions if paraphrases == "train" else self.held_out
        return choices[np.random.default_rng([seed, 1]).integers(len(choices))].format(**start.words)

    def reward(self, state: SceneState, goal: Goal) -> torch.Tensor:
        """Weighted sum of the terms, `(B,)`."""
        return torch.stack([reward.weight * reward.term(state, goal) for reward in self.rewards.values()]).sum(0)


def near(distance: torch.Tensor, scale: float) -> torch.Tensor:
    """1 at distance 0, falling to 0 over a few `scale` [m]."""
    return 1 - torch.tanh(distance / scale)


def scatter(rng: np.random.Generator, count: int, x: tuple[float, float], y: tuple[float, float], apart: float) -> np.ndarray:
    """`(count, 2)` points in a rectangle, at least `apart` from one another [m]."""
    for _ in range(1000):
        points = np.stack([rng.uniform(*x, count), rng.uniform(*y, count)], 1)
        distance = np.linalg.norm(points[:, None] - points[None], axis=2) + np.eye(count)
        if distance.min() >= apart:
            return points
    raise ValueError(f"{count} points {apart} m apart do not fit into x {x}, y {y}")


def joint_offset(rng: np.random.Generator, joints: int = 7, spread: float = 0.05) -> np.ndarray:
    """A small offset of every arm joint from home [rad]."""
    return rng.uniform(-spread, spread, joints)
