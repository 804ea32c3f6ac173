"""N clones of the humanoid in Isaac Lab, and how they are put on their feet."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from isaaclab.scene import InteractiveScene
from isaaclab.sim import SimulationContext
from isaaclab_newton.physics.newton_manager import NewtonManager

from sim.humanoid import stance
from sim.humanoid.body import ARMS_HOME
from sim.humanoid.model import HEIGHT, TORSO
from sim.isaaclab.clones import Clones
from sim.isaaclab.humanoid_scene import JOINTS
from sim.vec_env import SimulationError

ROOT = 7
"""Coordinates of the pelvis: position, then quaternion x, y, z, w; followed by the joints'."""


class StandingClones(Clones):
    """The humanoids of a running simulation."""

    def __init__(self, sim: SimulationContext, interactive: InteractiveScene) -> None:
        """Wrap a simulation that was reset. Raises `SimulationError` where the robot's joints come in another order than ours."""
        super().__init__(sim, interactive)
        if tuple(self._arm.joint_names) != JOINTS:
            raise SimulationError(f"the converted robot has joints {self._arm.joint_names}, in another order than {JOINTS}")
        self._torso = self._arm.body_names.index(TORSO)

    def stand(self, rows: Sequence[int], offsets: np.ndarray, limits: np.ndarray) -> None:
        """Stand still at home, arms off it by `(n, 14)` [rad] within `limits` `(14, 2)`."""
        rows, arrays = list(rows), self._arrays()
        arms = np.clip(ARMS_HOME + offsets, *limits.T)
        joints = self._tensor(np.concatenate([np.tile(stance.STANDING, (len(rows), 1)), arms], 1))
        NewtonManager.invalidate_fk()
        arrays["coordinates"][rows, :ROOT] = self._tensor(np.array([0.0, 0.0, HEIGHT, 0.0, 0.0, 0.0, 1.0]))
        arrays["coordinates"][rows, ROOT:] = arrays["targets"][rows] = joints
        arrays["velocities"][rows] = 0
        self._begin(rows)
