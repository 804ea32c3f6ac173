"""Isaac Lab's own loop over a cloned scene, for comparison: `python -m sim.isaaclab.bare <fd>`. Eager, as Isaac Lab steps on a CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.bare import BareSettings, steps_per_second
from sim.isaaclab.settings import IsaacSettings
from sim.isaaclab.worker import quietly
from sim.scene import CONTROL_HZ, CONTROL_STEPS
from sim.settings import Settings
from sim.vec_env import SEED_RANGES
from sim.workers.serve import serve

if TYPE_CHECKING:
    from isaaclab.scene import InteractiveScene
    from isaaclab.sim import SimulationContext


class BareIsaacLab:
    """One simulation: what an Isaac Lab environment does in every control step, without observation, action, reward and reset."""

    def __init__(self, settings: BareSettings, sim: SimulationContext, scene: InteractiveScene) -> None:
        self._settings, self._sim, self._scene = settings, sim, scene

    def run(self, draw: bool, seconds: float) -> float:
        """Control steps per second, of all environments together."""
        return steps_per_second(self._decide, self._settings.num_envs * self._settings.chunk, draw, seconds)

    def close(self) -> None:
        """Nothing outlives the process."""

    def _decide(self, draw: bool) -> None:
        for _ in range(self._settings.chunk):
            self._scene.write_data_to_sim()
            for _ in range(1 if self._sim.physics_manager.handles_decimation() else CONTROL_STEPS):
                self._sim.step(render=False)
            self._scene.update(1 / CONTROL_HZ)
        if draw:
            camera = self._scene["camera"]
            camera.update(0.0, force_recompute=True)
            camera.data.output["rgb"].torch.cpu().numpy()


def start(settings: BareSettings) -> BareIsaacLab:
    """Import the simulator, clone the scene, and put it where episodes start."""
    with quietly():
        from sim.isaaclab.launch import clone
        from sim.isaaclab.world import IsaacWorld
        from sim.robots import ROBOTS
        from sim.tasks import TASKS

        task, ids = TASKS[settings.task], tuple(range(settings.num_envs))
        episodes = Settings(settings.robot, "joint_delta", settings.image_px, settings.camera, None, "train")
        sim, scene = clone(IsaacSettings(episodes, settings.task, ids, "cpu", graph=False))
        world = IsaacWorld(sim, scene, task.scene, ROBOTS[settings.robot])
        world.start(ids, task.scene, [task.draw(seed) for seed in SEED_RANGES["train"][: settings.num_envs]])
        return BareIsaacLab(settings, sim, scene)


if __name__ == "__main__":
    serve(start, extra="isaac")
