"""The state of a scene, which travels between a worker and its parent. Numpy only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


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
