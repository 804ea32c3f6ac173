"""What travels between the parent and the workers of the tabletop suite: settings, and the state of an episode. No simulator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from sim.delays import Sent
from sim.randomize import Randomize, Variation

Kind = Literal["ee_delta", "joint_delta"]
Paraphrases = Literal["train", "held_out"]
ServoTarget = tuple[np.ndarray, float]
"""Arm joints `(J,)` [rad] and gripper opening from 0 to 1."""


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
    randomize: Randomize = field(default_factory=Randomize)
    experts: tuple[str, ...] = ()
    """Files of learned experts, in place of the scripted ones of their tasks."""


@dataclass(frozen=True)
class Seen:
    """What there was to see after a control step."""

    step: int
    physics: Any
    """The simulator's saved state, to draw the image from."""
    state: np.ndarray
    """`(2 J + 1,)` float32 joint angles [rad], gripper opening and tracking errors [rad]."""


@dataclass(frozen=True)
class Shown:
    """Of which control steps the observation is."""

    image: int = 0
    state: int = 0


@dataclass
class Slot:
    """One environment: the whole state of its episode. Also a copy of it that `snapshot` returns."""

    task: str
    seed: int
    instruction: str
    steps: int
    ended: bool
    goal: Mapping[str, int | float]
    command: np.ndarray
    """`(J + 5,)` float32: its row of `Command.rows`."""
    diverged: bool = False
    """Whether the physics broke down, which ended the episode."""
    physics: Any = None
    """Of a snapshot, as its simulator wants it."""
    variation: Variation | None = None
    """Of the episode; `None` where nothing is randomised."""
    line: tuple[Sent[ServoTarget], ...] = ()
    """The command in force and those on their way; empty where none is late."""
    seen: tuple[Seen, ...] = ()
    """What may still be shown, oldest first; empty where observations are neither late nor lost."""
    shown: Shown = Shown()

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What a new episode needs to start from here: the physics, if that is one array, and what the servos were told last."""
        assert isinstance(self.physics, np.ndarray)
        return {"physics": self.physics, "command": self.command}
