"""A plain loop over MuJoCo, for comparison: `python -m sim.mujoco.bare <fd>`. Physics and drawing, and nothing else."""

from __future__ import annotations

import mujoco

from sim.bare import BareSettings, steps_per_second
from sim.mujoco.physics import Physics
from sim.render import RenderContext, Renderer
from sim.robots import ROBOTS
from sim.scene import CONTROL_STEPS
from sim.tabletop import CAMERAS
from sim.tasks import TASKS
from sim.vec_env import SEED_RANGES
from sim.workers.serve import serve


class BareMujoco:
    """Environments of one process."""

    def __init__(self, settings: BareSettings) -> None:
        self._settings, task, robot = settings, TASKS[settings.task], ROBOTS[settings.robot]
        self._scenes = [Physics(task.scene, robot) for _ in range(settings.num_envs)]
        for physics, seed in zip(self._scenes, SEED_RANGES["train"], strict=False):
            physics.reset(task.draw(seed))
        self._context = RenderContext(settings.image_px)
        self._renderer = Renderer(self._scenes[0].model, CAMERAS[settings.camera], settings.image_px)

    def run(self, draw: bool, seconds: float) -> float:
        """Control steps per second, of all environments together."""
        return steps_per_second(self._decide, self._settings.num_envs * self._settings.chunk, draw, seconds)

    def close(self) -> None:
        """Free rendering memory."""
        self._context.close()

    def _decide(self, draw: bool) -> None:
        for physics in self._scenes:
            for _ in range(self._settings.chunk):
                mujoco.mj_step(physics.model, physics.data, CONTROL_STEPS)
            if draw:
                self._renderer.render(physics.data)


if __name__ == "__main__":
    serve(BareMujoco)
