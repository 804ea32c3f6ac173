"""A worker that shows what tests cannot see from outside of Isaac Lab: `python -m tests.sim.isaaclab_clones <fd>`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from sim.control import hold
from sim.isaaclab.settings import IsaacSettings
from sim.isaaclab.worker import quietly
from sim.mujoco.physics import Physics
from sim.mujoco.vary import Stage
from sim.randomize import Variation
from sim.render import RenderContext
from sim.robots import ROBOTS
from sim.tabletop import CAMERAS
from sim.tasks import TASKS
from sim.workers.serve import serve

if TYPE_CHECKING:
    from sim.isaaclab.varied import VariedIsaacWorld


class Clones:
    """The clones of a task's scene."""

    def __init__(self, settings: IsaacSettings, world: VariedIsaacWorld) -> None:
        self._task, self._world, self._ids = TASKS[settings.task], world, settings.env_ids
        episodes = settings.episodes
        self._robot, self._camera, self._px = ROBOTS[episodes.robot], CAMERAS[episodes.camera], episodes.image_px
        self._context: RenderContext | None = None

    def run(self, variations: list[Variation]) -> list[list[np.ndarray]]:
        """Vary each clone (not at all where there are no variations) and move its arm. Returns what its state then is."""
        if variations:
            self._world.vary(self._ids, self._task.scene, variations)
        self._world.start(self._ids, self._task.scene, [self._task.draw(7)] * len(self._ids))
        command = hold(self._world.state(self._ids))
        for _ in range(12):
            command.joints.add_(0.02)
            assert self._world.step(self._ids, command) == [""] * len(self._ids)
        return [[saved.coordinates, saved.velocities, saved.warm_start] for saved in self._world.save(self._ids)]

    def numbers(self) -> list[dict[str, np.ndarray]]:
        """What the solver now holds for each clone, in the order of the scene's bodies and the robot's servos."""
        from isaaclab_newton.physics.newton_manager import NewtonManager

        solver = NewtonManager._solver
        names, model = solver.mj_model, solver.mjw_model
        scene = self._task.scene
        parts = [body.name for body in scene.bodies] + [f"{fixture.name}_moving" for fixture in scene.fixtures]
        bodies = [names.body(f"_World_envs_env_0_{part}").id for part in parts]
        dofs = [int(names.body_dofadr[body]) for body in bodies]
        found = []
        for row in self._ids:
            own = {field: getattr(model, field).numpy()[row] for field in ("body_mass", "body_inertia", "body_subtreemass")}
            own = {field: np.sort(values[bodies], -1) if values.ndim > 1 else values[bodies] for field, values in own.items()}
            found.append(
                own
                | {
                    "body_invweight0": model.body_invweight0.numpy()[row][bodies, 0],
                    "dof_invweight0": model.dof_invweight0.numpy()[row][dofs],
                    "friction": np.unique(model.geom_friction.numpy()[row][:, 0]),
                    "stiffness": model.actuator_gainprm.numpy()[row][0::2, 0],
                    "stiffness_bias": model.actuator_biasprm.numpy()[row][0::2, 1],
                    "damping_bias": model.actuator_biasprm.numpy()[row][1::2, 2],
                    "meaninertia": model.stat.meaninertia.numpy()[row],
                }
            )
        return found

    def draw(self, variation: Variation) -> tuple[np.ndarray, np.ndarray]:
        """Where an episode starts, as Newton and as MuJoCo draw it."""
        start, env = self._task.draw(7), self._ids[:1]
        self._world.start(env, self._task.scene, [start])
        newton = self._world.varied_images(env, self._world.save(env), [variation])[0]
        self._context = self._context or RenderContext(self._px)
        physics = Physics(self._task.scene, self._robot)
        physics.reset(start)
        return newton, Stage(physics.model, self._task.scene, self._camera, self._px).render(physics.save(), variation)

    def close(self) -> None:
        """Nothing outlives the process."""


def start(settings: IsaacSettings) -> Clones:
    """Clone the scene."""
    torch.set_num_threads(1)
    with quietly():
        from sim.isaaclab.launch import launch
        from sim.isaaclab.varied import VariedIsaacWorld

        world = launch(settings)
    assert isinstance(world, VariedIsaacWorld)
    return Clones(settings, world)


if __name__ == "__main__":
    serve(start, extra="isaac")
