"""Every environment of a MuJoCo worker: one scene's physics each, stepped one after another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from sim.control import Command
from sim.mujoco.physics import Physics, compiled
from sim.render import RenderContext, Renderer
from sim.robots import ROBOTS
from sim.scene import Scene
from sim.settings import Settings
from sim.state import SceneState
from sim.tabletop import CAMERAS
from sim.tasks import TASKS
from sim.tasks.task import Start
from sim.vec_env import SimulationError


class MujocoWorld:
    """Physics by environment and scene, which is kept when an environment changes to another scene."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._robot = settings, ROBOTS[settings.robot]
        self._scene: dict[int, Scene] = {}
        self._physics: dict[tuple[int, str], Physics] = {}
        self._renderers: dict[str, Renderer] = {}
        self._context: RenderContext | None = None
        model = compiled(next(iter(TASKS.values())).scene, self._robot)
        self.limits = torch.tensor(np.array([model.joint(name).range for name in self._robot.joints], np.float32))

    def start(self, env_ids: Sequence[int], scene: Scene, starts: Sequence[Start]) -> None:
        """As `sim.episodes.World`."""
        for env, start in zip(env_ids, starts, strict=True):
            self._scene[env] = scene
            self._of(env).reset(start)

    def step(self, env_ids: Sequence[int], command: Command) -> list[str]:
        """As `sim.episodes.World`."""
        problems = []
        for row, env in enumerate(env_ids):
            self._of(env).command(command.joints[row].numpy(), float(command.opening[row]))
            try:
                self._of(env).step()
                problems.append("")
            except SimulationError as error:
                problems.append(str(error))
        return problems

    def state(self, env_ids: Sequence[int]) -> SceneState:
        """As `sim.episodes.World`."""
        numbers = [self._of(env).state() for env in env_ids]
        return SceneState(**{name: torch.as_tensor(np.stack([row[name] for row in numbers]), dtype=torch.float32) for name in numbers[0]})

    def images(self, env_ids: Sequence[int]) -> np.ndarray:
        """As `sim.episodes.World`."""
        if self._context is None:
            self._context = RenderContext(self._settings.image_px)
        return np.stack([self._renderer(env).render(self._of(env).data) for env in env_ids])

    def save(self, env_ids: Sequence[int]) -> list[np.ndarray]:
        """As `sim.episodes.World`."""
        return [self._of(env).save() for env in env_ids]

    def load(self, env_ids: Sequence[int], scene: Scene, saved: Sequence[np.ndarray]) -> None:
        """As `sim.episodes.World`."""
        for env, state in zip(env_ids, saved, strict=True):
            self._scene[env] = scene
            self._of(env).load(state)

    def close(self) -> None:
        """Free rendering memory."""
        self._renderers.clear()
        if self._context is not None:
            self._context.close()

    def _of(self, env: int) -> Physics:
        scene = self._scene[env]
        if (env, scene.name) not in self._physics:
            self._physics[env, scene.name] = Physics(scene, self._robot)
        return self._physics[env, scene.name]

    def _renderer(self, env: int) -> Renderer:
        scene = self._scene[env].name
        if scene not in self._renderers:
            self._renderers[scene] = Renderer(self._of(env).model, CAMERAS[self._settings.camera], self._settings.image_px)
        return self._renderers[scene]
