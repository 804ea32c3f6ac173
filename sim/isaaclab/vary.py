"""A variation's physical properties written into the rows of the solver's model, which every clone has to itself.

What is varied, and what MuJoCo derives from it, is worked out on a MuJoCo model of one clone; the rows are scaled by what
changed there. So a row depends on its variation alone, not on where things stand or on what neighbours or earlier episodes
were, and a variation that changes nothing gives the bits that were there at the start. The rows are written in place, where
a recorded step reads them.
"""

from __future__ import annotations

import copy

import mujoco
import numpy as np
import torch
import warp as wp
from newton.solvers import SolverMuJoCo

from sim.randomize import Variation
from sim.robots import Robot
from sim.scene import Scene

FIELDS = (
    "body_mass",
    "body_inertia",
    "body_subtreemass",
    "body_invweight0",
    "dof_invweight0",
    "geom_friction",
    "actuator_gainprm",
    "actuator_biasprm",
)
"""Of MuJoCo's model: what is varied, and what follows from it."""


class Properties:
    """The physical properties of N clones of one scene."""

    def __init__(self, solver: SolverMuJoCo, scene: Scene, robot: Robot) -> None:
        """Remember the properties as they are now, which are the nominal ones."""
        self._nominal = copy.copy(solver.mj_model)
        self._data = mujoco.MjData(self._nominal)
        mujoco.mj_setConst(self._nominal, self._data)
        model = solver.mjw_model
        self._rows = {name: wp.to_torch(getattr(model, name)) for name in FIELDS}
        self._meaninertia = wp.to_torch(model.stat.meaninertia)
        self._first = {name: rows.clone() for name, rows in self._rows.items()}
        self._first_meaninertia = self._meaninertia.clone()
        parts = [body.name for body in scene.bodies] + [f"{fixture.name}_moving" for fixture in scene.fixtures]
        self._bodies = [self._nominal.body(f"_World_envs_env_0_{part}").id for part in parts]
        self._springs, self._dampers = zip(*(_servos(self._nominal, joint) for joint in (*robot.joints, *robot.fingers)), strict=True)
        self._scales = [*range(len(robot.joints)), *([-1] * len(robot.fingers))]
        """Which of a variation's gains a servo has."""
        self._variations: dict[int, Variation] = {}

    def vary(self, row: int, variation: Variation) -> None:
        """Give a clone the properties of an episode."""
        if self._variations.get(row) == variation:
            return
        model = self._varied(variation)
        for name, rows in self._rows.items():
            rows[row] = self._first[name][row] * _ratio(getattr(model, name), getattr(self._nominal, name), rows)
        self._meaninertia[row] = self._first_meaninertia[row] * (model.stat.meaninertia / self._nominal.stat.meaninertia)
        self._variations[row] = variation

    def _varied(self, v: Variation) -> mujoco.MjModel:
        model, springs, dampers = copy.copy(self._nominal), list(self._springs), list(self._dampers)
        stiffness, damping = np.array(v.stiffness)[self._scales], np.array(v.damping)[self._scales]
        model.body_mass[self._bodies] *= v.mass
        model.body_inertia[self._bodies] *= np.array(v.mass)[:, None]
        model.geom_friction[:, 0] *= v.friction
        model.actuator_gainprm[springs, 0] *= stiffness
        model.actuator_biasprm[springs, 1] *= stiffness
        model.actuator_gainprm[dampers, 0] *= damping
        model.actuator_biasprm[dampers, 2] *= damping
        mujoco.mj_setConst(model, self._data)
        return model


def _servos(model: mujoco.MjModel, joint: str) -> tuple[int, int]:
    """The two actuators that Newton makes of a joint's servo: a spring to the target, and a damper."""
    (found,) = (i for i in range(model.njnt) if "_robot_" in model.joint(i).name and model.joint(i).name.endswith(f"_{joint}"))
    spring, damper = np.flatnonzero(model.actuator_trnid[:, 0] == found)
    assert model.actuator_biasprm[spring, 1] < 0 and model.actuator_biasprm[damper, 2] < 0
    return int(spring), int(damper)


def _ratio(varied: np.ndarray, nominal: np.ndarray, like: torch.Tensor) -> torch.Tensor:
    """How much larger numbers are than the nominal ones; those that are nominally 0 stay 0."""
    ratio = np.divide(varied, nominal, out=np.ones_like(nominal), where=nominal != 0)
    return torch.as_tensor(ratio, dtype=like.dtype, device=like.device)
