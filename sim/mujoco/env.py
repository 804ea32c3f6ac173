"""The tabletop suite in MuJoCo: worker processes simulate and render, this side only talks to them."""

from __future__ import annotations

from collections.abc import Sequence

from sim.control import KINDS, Kind
from sim.randomize import TERMS, Randomize, Randomizer, require_supported
from sim.robots import ROBOTS
from sim.scene import CONTROL_HZ
from sim.settings import Settings, Slot
from sim.tabletop import CAMERAS, entry_names, make_spec
from sim.tasks import TASKS
from sim.tasks.task import Paraphrases
from sim.workers.process import WorkerProcess
from sim.workers.vec_env import WorkerVecEnv, check_name, require_positive

SUPPORTED = TERMS
"""Terms of randomisation that this backend can vary: all."""


class MujocoVecEnv(WorkerVecEnv):
    """N tabletop environments. `privileged` is the scene's state and goal as numbers, padded to the longest of the suite."""

    def __init__(
        self,
        tasks: Sequence[str],
        num_envs: int,
        workers: int = 2,
        image_px: int = 64,
        camera: str = "front",
        horizon: int | None = None,
        paraphrases: Paraphrases = "train",
        robot: str = "arm7",
        control: Kind = "ee_delta",
        randomize: Randomize | None = None,
        experts: Sequence[str] = (),
    ) -> None:
        """Start the workers.

        Args:
            tasks: names of the tasks that resets may ask for, such as "push".
            num_envs: N.
            workers: physics processes; at most N are started.
            image_px: height and width of images [pixel].
            camera: name of a camera preset.
            horizon: control steps after which an episode is truncated; each task's own if `None`.
            paraphrases: which instruction phrasings are drawn.
            robot: name of a robot.
            control: what actions mean.
            randomize: what varies from episode to episode besides the initial state.
            experts: files of learned experts, in place of the scripted ones of their tasks.
        """
        for task in tasks:
            check_name("tabletop task", task, tuple(TASKS))
        check_name("camera", camera, tuple(CAMERAS))
        check_name("set of paraphrases", paraphrases, ("train", "held_out"))
        check_name("robot", robot, tuple(ROBOTS))
        check_name("control", control, KINDS)
        ROBOTS[robot].mjcf()  # missing meshes show now, not in a worker
        require_positive(num_envs=num_envs, workers=workers, image_px=image_px, horizon=1 if horizon is None else horizon)
        randomize = randomize or Randomize()
        require_supported(randomize, "mujoco", SUPPORTED)
        Randomizer(randomize, CONTROL_HZ)  # a wrong file shows here, not in a worker
        settings = Settings(robot, control, image_px, camera, horizon, paraphrases, randomize, tuple(experts))
        processes = [WorkerProcess("sim.mujoco.worker", settings) for _ in range(min(workers, num_envs))]
        spec, longest = make_spec(ROBOTS[robot], control, camera, image_px), max(TASKS[task].horizon for task in tasks)
        super().__init__(spec, tasks, num_envs, processes, entry_names(camera), Slot, horizon or longest)
