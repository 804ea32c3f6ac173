"""The tabletop suite in Isaac Lab: one worker process for each scene, in which that scene's environments step together."""

from __future__ import annotations

from collections.abc import Sequence

from sim.control import KINDS, Kind
from sim.isaaclab.settings import IsaacSettings
from sim.randomize import TERMS, Randomize, Randomizer, require_supported
from sim.robots import ROBOTS
from sim.scene import CONTROL_HZ
from sim.settings import Settings, Slot
from sim.tabletop import CAMERAS, entry_names, make_spec
from sim.tasks import TASKS
from sim.tasks.task import Paraphrases
from sim.vec_env import SimulationError
from sim.workers.process import WorkerProcess
from sim.workers.vec_env import WorkerVecEnv, check_name, require_positive

SUPPORTED = TERMS
"""Terms of randomisation that this backend can vary: all."""


class IsaacVecEnv(WorkerVecEnv):
    """N tabletop environments in Isaac Lab. Which tasks an environment can run follows from its scene (`hosts`)."""

    def __init__(
        self,
        tasks: Sequence[str],
        num_envs: int,
        image_px: int = 64,
        camera: str = "front",
        horizon: int | None = None,
        paraphrases: Paraphrases = "train",
        robot: str = "arm7",
        control: Kind = "ee_delta",
        device: str = "cpu",
        graph: bool = True,
        randomize: Randomize | None = None,
        experts: Sequence[str] = (),
    ) -> None:
        """Start a worker for each scene that the tasks need.

        Args:
            tasks: names of the tasks that resets may ask for, such as "push".
            num_envs: N, shared out among the scenes by their number of tasks; at least one each.
            image_px: height and width of images [pixel].
            camera: name of a camera preset.
            horizon: control steps after which an episode is truncated; each task's own if `None`.
            paraphrases: which instruction phrasings are drawn.
            robot: name of a robot.
            control: what actions mean.
            device: where physics and rendering run.
            graph: on a CPU, replay a recorded physics step, which is several times faster; bit-equal to stepping eagerly.
            randomize: what varies from episode to episode besides the initial state.
            experts: files of learned experts, in place of the scripted ones of their tasks.
        """
        for task in tasks:
            check_name("tabletop task", task, tuple(TASKS))
        check_name("camera", camera, tuple(CAMERAS))
        check_name("set of paraphrases", paraphrases, ("train", "held_out"))
        check_name("robot", robot, tuple(ROBOTS))
        check_name("control", control, KINDS)
        require_positive(num_envs=num_envs, image_px=image_px, horizon=1 if horizon is None else horizon)
        by_scene: dict[str, tuple[str, ...]] = {}
        for task in dict.fromkeys(tasks):
            scene = TASKS[task].scene.name
            by_scene[scene] = (*by_scene.get(scene, ()), task)
        if num_envs < len(by_scene):
            raise SimulationError(
                f"{', '.join(tasks)} need {len(by_scene)} scenes ({', '.join(by_scene)}) and at least one environment each, got {num_envs}"
            )
        hosted = list(by_scene.values())
        homes = _share_out(num_envs, [len(group) for group in hosted])
        randomize = randomize or Randomize()
        require_supported(randomize, "isaaclab", SUPPORTED)
        Randomizer(randomize, CONTROL_HZ)  # a wrong file shows here, not in a worker
        settings = Settings(robot, control, image_px, camera, horizon, paraphrases, randomize, tuple(experts))
        processes = [
            WorkerProcess("sim.isaaclab.worker", IsaacSettings(settings, group[0], _ids(homes, w), device, graph))
            for w, group in enumerate(hosted)
        ]
        spec, longest = make_spec(ROBOTS[robot], control, camera, image_px), max(TASKS[task].horizon for task in tasks)
        super().__init__(spec, tasks, num_envs, processes, entry_names(camera), Slot, horizon or longest, homes, hosted)


def _share_out(num_envs: int, weights: Sequence[int]) -> list[int]:
    """Scene of each environment: in proportion to the weights, at least one each, those of a scene side by side."""
    counts = [1] * len(weights)
    while sum(counts) < num_envs:
        neediest = max(range(len(weights)), key=lambda scene: weights[scene] / counts[scene])
        counts[neediest] += 1
    return [scene for scene, count in enumerate(counts) for _ in range(count)]


def _ids(homes: Sequence[int], worker: int) -> tuple[int, ...]:
    return tuple(env for env, home in enumerate(homes) if home == worker)
