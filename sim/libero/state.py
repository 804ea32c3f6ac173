"""The state of a scene, which travels between a worker and its parent. Numpy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SceneState:
    """Everything that stepping, success and what is shown depend on."""

    physics: np.ndarray
    """MuJoCo integration state."""
    shown: np.ndarray
    """The same where the cameras saw it, shortly before, and `site_rgba` then."""
    body_pos: np.ndarray
    """`(bodies, 3)` model field, edited by resets."""
    body_quat: np.ndarray
    """`(bodies, 4)` model field, edited by resets."""
    site_rgba: np.ndarray
    """`(sites, 4)` model field: a stove's burner is red when it is on."""
    goal: tuple[np.ndarray, np.ndarray]
    """Position `(3,)` [m] and orientation `(3, 3)` that the arm's controller moves to."""
    gripper: np.ndarray
    """`(2,)` command of the fingers, which follows actions at a limited speed."""
    state: np.ndarray
    """`(8,)` float32 the state entry."""
    clock: tuple[float, bool]
    """Time since the library last began to wait for a sample [s], and whether it has taken one since."""
