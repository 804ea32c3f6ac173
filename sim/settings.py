"""What travels between the parent and the workers of the tabletop suite: settings, and the state of an episode. No simulator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Kind = Literal["ee_delta", "joint_delta"]
Paraphrases = Literal["train", "held_out"]


@dataclass(frozen=True)
class Settings:
    """What all workers of one environment share."""

    robot: str
    control: Kind
    image_px: int
    camera: str
    horizon: int | None
    """Control steps of an episode; the task's own if `None`."""
    paraphrases: Paraphrases


@dataclass(frozen=True)
class Slot:
    """One environment: the whole state of its episode. Also what `snapshot` returns."""

    task: str
    seed: int
    instruction: str
    steps: int
    ended: bool
    goal: Mapping[str, int | float]
    command: dict[str, np.ndarray]
    """`Command`, without the batch dimension."""
    diverged: bool = False
    """Whether the physics broke down, which ended the episode."""
    physics: Any = None
    """Of a snapshot, as its simulator wants it."""
