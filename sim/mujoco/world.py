"""Every environment of a MuJoCo worker: one scene's physics each, stepped one after another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from sim.control import Command
from sim.mujoco.physics import DIVERGED, Physics, compiled
from sim.mujoco.vary import Stage
from sim.randomize import Variation
from sim.render import RenderContext, Renderer
from sim.robots import ROBOTS
from sim.scene import CONTROL_STEPS, Scene
from sim.settings import ServoTarget, Settings
from sim.state import SceneState
from sim.tabletop import CAMERAS
from sim.tasks import TASKS
from sim.tasks.task import Start
from sim.unstable import UNSTABLE
from sim.varied import Varies
from sim.vec_env import SimulationError


class MujocoWorld:
    """Physics by environment and scene, which is kept when an environment changes to another scene."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._robot = settings, ROBOTS[settings.robot]
        self._scene: dict[int, Scene] = {}
        self._physics: dict[tuple[int, str], Physics] = {}
        self._renderers: dict[str, Renderer] = {}
        self._stages: dict[str, Stage] = {}
        self._context: RenderContext | None = None
        self._seen: tuple[tuple[int, ...], SceneState] | None = None
        """Whose state was read last, and the state, until something moves."""
        self._own_models = Varies.of(settings.randomize.active).physics
        model = compiled(next(iter(TASKS.values())).scene, self._robot)
        self.limits = torch.tensor(np.array([model.joint(name).range for name in self._robot.joints], np.float32))

    def start(self, env_ids: Sequence[int], scene: Scene, starts: Sequence[Start]) -> None:
        """As `sim.episodes.World`."""
        self._seen = None
        for env, start in zip(env_ids, starts, strict=True):
            self._scene[env] = scene
            self._of(env).reset(start)

    def step(self, env_ids: Sequence[int], command: Command) -> list[str]:
        """As `sim.episodes.World`."""
        scenes = [self._of(env) for env in env_ids]
        for physics, targets in zip(scenes, scenes[0].targets(command.joints.numpy(), command.opening.numpy()), strict=True):
            physics.drive(targets)
            physics.advance(CONTROL_STEPS)
        broken = np.array([physics.warnings for physics in scenes])[:, UNSTABLE].any(1) | ~np.isfinite(self._read(env_ids).sum(1))
        return [DIVERGED if wrong else "" for wrong in broken.tolist()]

    def state(self, env_ids: Sequence[int]) -> SceneState:
        """As `sim.episodes.World`."""
        if self._seen is None or self._seen[0] != tuple(env_ids):
            self._read(env_ids)
        assert self._seen is not None
        return self._seen[1]

    def images(self, env_ids: Sequence[int]) -> np.ndarray:
        """As `sim.episodes.World`."""
        self._open_context()
        return np.stack([self._renderer(env).render(self._of(env).data) for env in env_ids])

    def save(self, env_ids: Sequence[int]) -> list[np.ndarray]:
        """As `sim.episodes.World`."""
        return [self._of(env).save() for env in env_ids]

    def load(self, env_ids: Sequence[int], scene: Scene, saved: Sequence[np.ndarray]) -> None:
        """As `sim.episodes.World`."""
        self._seen = None
        for env, state in zip(env_ids, saved, strict=True):
            self._scene[env] = scene
            self._of(env).load(state)

    def vary(self, env_ids: Sequence[int], scene: Scene, variations: Sequence[Variation]) -> None:
        """As `sim.varied.VariedWorld`."""
        self._seen = None
        for env, variation in zip(env_ids, variations, strict=True):
            self._scene[env] = scene
            self._of(env).vary(variation)

    def step_late(self, env_ids: Sequence[int], targets: Sequence[Sequence[tuple[int, ServoTarget]]]) -> list[str]:
        """As `sim.varied.VariedWorld`."""
        problems = []
        for env, parts in zip(env_ids, targets, strict=True):
            problem, physics = "", self._of(env)
            for steps, (joints, opening) in parts:
                physics.command(joints, opening)
                problem = problem or self._step(physics, steps)
            problems.append(problem)
        return problems

    def varied_images(self, env_ids: Sequence[int], saved: Sequence[np.ndarray], variations: Sequence[Variation]) -> np.ndarray:
        """As `sim.varied.VariedWorld`."""
        self._open_context()
        return np.stack([self._stage(env).render(state, v) for env, state, v in zip(env_ids, saved, variations, strict=True)])

    def close(self) -> None:
        """Free rendering memory."""
        self._renderers.clear()
        self._stages.clear()
        if self._context is not None:
            self._context.close()

    def _of(self, env: int) -> Physics:
        scene = self._scene[env]
        if (env, scene.name) not in self._physics:
            self._physics[env, scene.name] = Physics(scene, self._robot, self._own_models)
        return self._physics[env, scene.name]

    def _read(self, env_ids: Sequence[int]) -> np.ndarray:
        """Look where everything is, keep it as the environments' state until something moves, and return it as `Physics.read` wrote it."""
        scenes = [self._of(env) for env in env_ids]
        rows = np.empty((len(scenes), scenes[0].width))
        for physics, row in zip(scenes, rows, strict=True):
            physics.read(row)
        numbers = scenes[0].named(rows)
        self._seen = tuple(env_ids), SceneState(**{name: torch.from_numpy(part.astype(np.float32)) for name, part in numbers.items()})
        return rows

    def _step(self, physics: Physics, steps: int) -> str:
        """Some physics steps; returns what went wrong."""
        self._seen = None
        try:
            physics.step(steps)
        except SimulationError as error:
            return str(error)
        return ""

    def _open_context(self) -> None:
        if self._context is None:
            self._context = RenderContext(self._settings.image_px)

    def _stage(self, env: int) -> Stage:
        scene = self._scene[env]
        if scene.name not in self._stages:
            model = compiled(scene, self._robot)
            self._stages[scene.name] = Stage(model, scene, CAMERAS[self._settings.camera], self._settings.image_px)
        return self._stages[scene.name]

    def _renderer(self, env: int) -> Renderer:
        scene = self._scene[env].name
        if scene not in self._renderers:
            self._renderers[scene] = Renderer(
                compiled(self._scene[env], self._robot), CAMERAS[self._settings.camera], self._settings.image_px
            )
        return self._renderers[scene]
