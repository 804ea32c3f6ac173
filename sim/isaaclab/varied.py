"""Cloned environments whose physics, timing and looks vary from episode to episode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple

import numpy as np
import torch
from isaaclab.scene import InteractiveScene
from isaaclab.sim import SimulationContext
from isaaclab_newton.physics.newton_manager import NewtonManager
from newton.solvers import SolverMuJoCo

from sim.isaaclab.clones import Snapshot
from sim.isaaclab.settings import IsaacSettings
from sim.isaaclab.stage import Stage
from sim.isaaclab.vary import Properties
from sim.isaaclab.world import IsaacWorld
from sim.randomize import Variation
from sim.robots import ROBOTS
from sim.scene import CONTROL_STEPS, Scene
from sim.settings import ServoTarget
from sim.tabletop import CAMERAS
from sim.tasks import TASKS
from sim.varied import Varies


class VariedIsaacWorld(IsaacWorld):
    """`sim.varied.VariedWorld` over clones."""

    def __init__(self, sim: SimulationContext, interactive: InteractiveScene, settings: IsaacSettings) -> None:
        """Wrap a simulation that was reset. Where commands come late it goes by single physics steps."""
        episodes, scene = settings.episodes, TASKS[settings.task].scene
        robot, varies = ROBOTS[episodes.robot], Varies.of(episodes.randomize.active)
        super().__init__(sim, interactive, scene, robot, settings.env_ids, steps_at_once=1 if varies.commands_late else CONTROL_STEPS)
        sim.step(render=False)  # in which Isaac Lab tells the solver what it set up, which would undo a variation later
        solver = NewtonManager._solver
        assert isinstance(solver, SolverMuJoCo)
        self._properties = Properties(solver, scene, robot)
        self._stage = Stage(NewtonManager.get_model(), scene, CAMERAS[episodes.camera], episodes.image_px)

    def vary(self, env_ids: Sequence[int], scene: Scene, variations: Sequence[Variation]) -> None:
        """As `sim.varied.VariedWorld`."""
        self._require(scene)
        for row, variation in zip(self._local(env_ids), variations, strict=True):
            self._properties.vary(row, variation)

    def step_late(self, env_ids: Sequence[int], targets: Sequence[Sequence[tuple[int, ServoTarget]]]) -> list[str]:
        """As `sim.varied.VariedWorld`."""
        rows = self._local(env_ids)
        self._only(rows)
        due: dict[int, list[tuple[int, ServoTarget]]] = {step: [] for step in range(CONTROL_STEPS)}
        for row, parts in zip(rows, targets, strict=True):
            step = 0
            for steps, target in parts:
                due[step].append((row, target))
                step += steps
        for arriving in due.values():
            if arriving:
                joints = self._tensor(np.stack([joints for _, (joints, _) in arriving]))
                opening = torch.tensor([opening for _, (_, opening) in arriving], device=joints.device)
                self._aim([row for row, _ in arriving], joints, opening)
            self._advance(1)
        return self._stepped(rows)

    def varied_images(self, env_ids: Sequence[int], saved: Sequence[Snapshot], variations: Sequence[Variation]) -> np.ndarray:
        """As `sim.varied.VariedWorld`. Environments that are shown as they were go back there to be drawn."""
        pairs = [*zip(env_ids, self.save(env_ids), saved, strict=True)]
        back = [(env, now, past) for env, now, past in pairs if not _same(now, past)]
        self.load([env for env, _, _ in back], self._scene, [past for _, _, past in back])
        rows = self._local(env_ids)
        self._thaw(rows)
        state = NewtonManager.get_state_0()
        images = np.stack([self._stage.draw(state, row, variation) for row, variation in zip(rows, variations, strict=True)])
        self.load([env for env, _, _ in back], self._scene, [now for _, now, _ in back])
        return images


def _same(a: Snapshot, b: Snapshot) -> bool:
    return a is b or all(map(np.array_equal, astuple(a), astuple(b)))
