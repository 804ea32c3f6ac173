"""The physics of N cloned humanoids in Isaac Lab.

N environments · n those of a call
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import warp as wp
from isaaclab.scene import InteractiveScene
from isaaclab.sim import SimulationContext
from isaaclab_newton.physics.newton_manager import NewtonManager

from sim.humanoid import stance
from sim.humanoid.body import Body, down
from sim.humanoid.g1 import BODY_JOINTS, CONTROL_HZ, CONTROL_STEPS
from sim.humanoid.model import PELVIS
from sim.humanoid.pushes import push
from sim.isaaclab.clones import Snapshot
from sim.isaaclab.standing import ROOT, StandingClones
from sim.scene import PHYSICS_DT_S

INVERSE = np.array([-1.0, -1.0, -1.0, 1.0])
"""Times a quaternion x, y, z, w."""


@dataclass(frozen=True)
class Saved:
    """A clone's state, and how long its episode has been going on, which decides the pushes."""

    clone: Snapshot
    time_s: float


class HumanoidWorld(StandingClones):
    """The humanoids of a running Isaac Lab simulation, behind `sim.humanoid.episodes.World`.

    What follows from coordinates (hands, their Jacobians, pictures) is asked of MuJoCo's model, from which Isaac Lab's was made.
    """

    def __init__(self, sim: SimulationContext, interactive: InteractiveScene) -> None:
        """Wrap a simulation that was reset."""
        super().__init__(sim, interactive)
        self._seeds, self._times = np.zeros(self.num_envs, int), np.zeros(self.num_envs)
        self._body, self._shown = Body(), -1
        self._pelvis_com = self._body.model.body(PELVIS).ipos.copy()
        self.limits = self._body.limits
        """As `World`."""
        sim.physics_manager.set_decimation(1)

    def start(self, ids: Sequence[int], seeds: Sequence[int], offsets: Sequence[np.ndarray]) -> None:
        """As `sim.humanoid.episodes.World`."""
        rows = self._local(ids)
        self._seeds[rows], self._times[rows] = seeds, 0.0
        self.stand(rows, np.stack(offsets), self.limits)

    def step(self, ids: Sequence[int], commands: np.ndarray) -> list[bool]:
        """As `sim.humanoid.episodes.World`. All N environments step; those left out are frozen."""
        rows = self._local(ids)
        self._only(rows)
        self._arrays()["targets"][rows, len(BODY_JOINTS) :] = self._tensor(commands)
        for _ in range(CONTROL_STEPS):
            self._balance(rows)
            self._push(rows)
            self._arm.write_data_to_sim()
            self._sim.step(render=False)
            self._times[rows] += PHYSICS_DT_S
        self._interactive.update(1 / CONTROL_HZ)
        self.changed()
        return self.broken()[rows].tolist()

    def look(self, env: int) -> Body:
        """As `sim.humanoid.episodes.World`."""
        [row] = self._local([env])
        if row != self._shown:
            [clone] = self._snapshots([row])
            self._body.show(*self._as_mujoco(clone.coordinates.astype(float), clone.velocities.astype(float)))
            self._shown = row
        return self._body

    def save(self, ids: Sequence[int]) -> list[Saved]:
        """As `sim.humanoid.episodes.World`."""
        rows = self._local(ids)
        return [Saved(clone, float(self._times[row])) for clone, row in zip(self._snapshots(rows), rows, strict=True)]

    def load(self, ids: Sequence[int], seeds: Sequence[int], saved: Sequence[Saved]) -> None:
        """As `sim.humanoid.episodes.World`."""
        rows = self._local(ids)
        self._put_aside(rows, [state.clone for state in saved])
        self._seeds[rows], self._times[rows] = seeds, [state.time_s for state in saved]
        self.changed()

    def changed(self) -> None:
        """Look again."""
        self._shown = -1

    def _balance(self, rows: list[int]) -> None:
        """Tell legs and waist what answers the tilt of the pelvis."""
        arrays = self._arrays()
        quat, rate = (
            arrays["coordinates"][rows, 3:ROOT].cpu().numpy().astype(float),
            arrays["velocities"][rows, 3:6].cpu().numpy().astype(float),
        )
        answer = stance.targets(down(quat[:, [3, 0, 1, 2]]), rotated(quat * INVERSE, rate))
        arrays["targets"][rows, : len(BODY_JOINTS)] = self._tensor(answer)

    def _push(self, rows: list[int]) -> None:
        """Put forces on torsos: world frame, at the centre of mass, for the next physics step."""
        state = NewtonManager.get_state_0()
        assert state.body_f
        forces = wp.to_torch(state.body_f).view(self.num_envs, len(self._arm.body_names), 6)
        pushes = [push(int(seed), time_s) for seed, time_s in zip(self._seeds[rows], self._times[rows], strict=True)]
        forces[rows, self._torso, :3] = self._tensor(np.stack(pushes))

    def _as_mujoco(self, coordinates: np.ndarray, velocities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Newton gives the velocity of the pelvis' centre of mass, and turns in the world's frame; MuJoCo its origin's, in its own."""
        quat, linear, angular = coordinates[3:ROOT], velocities[:3], velocities[3:6]
        linear = linear - np.cross(angular, rotated(quat, self._pelvis_com))
        return (
            np.concatenate([coordinates[:3], quat[[3, 0, 1, 2]], coordinates[ROOT:]]),
            np.concatenate([linear, rotated(quat * INVERSE, angular), velocities[6:]]),
        )


def rotated(quat_xyzw: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Vectors `(..., 3)` turned by `(..., 4)`; what is not finite stays so."""
    axis = quat_xyzw[..., :3]
    twist = 2 * np.cross(axis, vectors)
    return vectors + quat_xyzw[..., 3:] * twist + np.cross(axis, twist)
