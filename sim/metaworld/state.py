"""What travels between the parent and its workers: settings, and the state of an episode. Numpy only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sim.metaworld.instructions import Paraphrases


@dataclass(frozen=True)
class Settings:
    """What all workers of one `MetaworldVecEnv` share."""

    image_px: int
    camera: str
    horizon: int
    paraphrases: Paraphrases


@dataclass(frozen=True)
class SceneState:
    """Everything that stepping, rewards and the expert depend on."""

    physics: np.ndarray
    """MuJoCo integration state."""
    body_pos: np.ndarray
    """`(bodies, 3)` model field, edited by resets."""
    site_pos: np.ndarray
    """`(sites, 3)` model field, edited by resets."""
    attributes: dict[str, Any]
    """Python attributes of the library's environment object."""
    obs: np.ndarray
    """`(39,)` float64 library observation, with the goal."""


def entry_names(camera: str) -> dict[str, str]:
    """Observation entry of each array that workers return; the names are LeRobot's."""
    return {"image": f"observation.images.{camera}", "state": "observation.state", "task": "task"}
