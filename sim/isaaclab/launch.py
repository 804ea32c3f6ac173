"""Start Isaac Lab in this process, with one scene cloned N times."""

from __future__ import annotations

from isaaclab.scene import InteractiveScene, InteractiveSceneCfg
from isaaclab.sim import SimulationContext

from sim.humanoid.env import CloneSettings
from sim.isaaclab import humanoid_scene
from sim.isaaclab.humanoid_world import HumanoidWorld
from sim.isaaclab.scene import scene_cfg, simulation
from sim.isaaclab.settings import IsaacSettings
from sim.isaaclab.varied import VariedIsaacWorld
from sim.isaaclab.world import IsaacWorld
from sim.robots import ROBOTS
from sim.tabletop import CAMERAS
from sim.tasks import TASKS


def clone(settings: IsaacSettings) -> tuple[SimulationContext, InteractiveScene]:
    """Isaac Lab's simulation of a task's scene. A process holds one."""
    episodes = settings.episodes
    scene, robot = TASKS[settings.task].scene, ROBOTS[episodes.robot]
    cfg = scene_cfg(scene, robot, len(settings.env_ids), CAMERAS[episodes.camera], episodes.image_px)
    return _run(settings.device, settings.graph, cfg)


def launch(settings: IsaacSettings) -> IsaacWorld:
    """The same behind our interface."""
    sim, interactive = clone(settings)
    if settings.episodes.randomize.active:
        return VariedIsaacWorld(sim, interactive, settings)
    return IsaacWorld(sim, interactive, TASKS[settings.task].scene, ROBOTS[settings.episodes.robot], settings.env_ids)


def launch_humanoid(settings: CloneSettings) -> HumanoidWorld:
    """The humanoid's, likewise."""
    return HumanoidWorld(*_run(settings.device, settings.graph, humanoid_scene.scene_cfg(settings.num_envs)))


def _run(device: str, graph: bool, cfg: InteractiveSceneCfg) -> tuple[SimulationContext, InteractiveScene]:
    sim = SimulationContext(simulation(device, graph))
    interactive = InteractiveScene(cfg)
    sim.register_interactive_scene(interactive)
    sim.reset()
    interactive.update(0.0)
    return sim, interactive
