"""Vectorised simulation environments behind one contract (`sim.vec_env`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from sim.vec_env import SimulationError

if TYPE_CHECKING:
    from sim.randomize import Randomize
    from sim.workers.vec_env import WorkerVecEnv

BACKENDS = ("metaworld", "mujoco", "isaaclab", "libero")
SUITE = ("mujoco", "isaaclab")
"""Backends of the tabletop suite."""
HUMANOID = "g1_arms"
"""The robot of `sim.humanoid`."""


def make(
    backend: str,
    tasks: Sequence[str],
    num_envs: int,
    workers: int = 2,
    image_px: int = 64,
    camera: str | None = None,
    horizon: int | None = None,
    paraphrases: Literal["train", "held_out"] = "train",
    robot: str = "arm7",
    control: Literal["ee_delta", "joint_delta"] = "ee_delta",
    device: str = "cpu",
    randomize: Randomize | None = None,
    experts: Sequence[str] = (),
) -> WorkerVecEnv:
    """Start environments of a backend, which is imported only now.

    Args:
        backend: name of the simulator backend.
        tasks: task names of the backend that resets may ask for.
        num_envs: environments simulated at once.
        workers: physics processes; Isaac Lab has one for each scene.
        image_px: height and width of images [pixel]; the humanoid has none.
        camera: camera preset of the backend; its first if `None`.
        horizon: control steps after which an episode is truncated; if `None`, 160 in Meta-World, else each task's own.
        paraphrases: instruction phrasings drawn at reset.
        robot: robot of the tabletop suite, or `g1_arms`, the humanoid, whose tasks are its own; Meta-World has its own.
        control: what actions of the tabletop suite and of the humanoid mean; Meta-World has its own.
        device: where Isaac Lab simulates and draws.
        randomize: what varies from episode to episode besides the initial state; nothing if `None`.
        experts: files of learned experts (`sim.learned`), in place of the tabletop tasks' scripted ones.

    Raises:
        SimulationError: unknown backend, task, camera or robot, a number below 1, or a device or a term of `randomize` that the
            backend cannot use.
    """
    if backend not in BACKENDS:
        raise SimulationError(f"unknown simulator backend '{backend}'; allowed: {', '.join(BACKENDS)}")
    if experts and (robot == HUMANOID or backend not in SUITE):
        raise SimulationError(f"learned experts are for tabletop tasks, got {', '.join(experts)} with backend {backend}, robot {robot}")
    if robot == HUMANOID and (backend == "mujoco" or backend == "isaaclab"):
        return _humanoid(backend, tasks, num_envs, workers, camera, horizon, paraphrases, control, device, randomize)
    if backend in SUITE:
        from sim.robots import ROBOTS
        from sim.workers.vec_env import check_name

        check_name("robot", robot, (*ROBOTS, HUMANOID))
    if backend == "isaaclab":
        from sim.isaaclab.env import IsaacVecEnv

        return IsaacVecEnv(
            tasks, num_envs, image_px, camera or "front", horizon, paraphrases, robot, control, device, randomize=randomize, experts=experts
        )
    _require_cpu(backend, device)
    if backend == "mujoco":
        from sim.mujoco.env import MujocoVecEnv

        return MujocoVecEnv(tasks, num_envs, workers, image_px, camera or "front", horizon, paraphrases, robot, control, randomize, experts)
    if randomize is not None:
        from sim.randomize import require_supported

        require_supported(randomize, backend, ())
    if backend == "libero":
        from sim.libero.env import LiberoVecEnv

        if paraphrases != "train":
            raise SimulationError("LIBERO has one phrasing for each task: set sim.paraphrases to train")
        return LiberoVecEnv(tasks, num_envs, workers, image_px, camera or "both", horizon)
    from sim.metaworld.env import MetaworldVecEnv

    return MetaworldVecEnv(tasks, num_envs, workers, image_px, camera or "corner2", horizon or 160, paraphrases)


def _humanoid(
    backend: Literal["mujoco", "isaaclab"],
    tasks: Sequence[str],
    num_envs: int,
    workers: int,
    camera: str | None,
    horizon: int | None,
    paraphrases: Literal["train", "held_out"],
    control: str,
    device: str,
    randomize: Randomize | None,
) -> WorkerVecEnv:
    """The humanoid, which moves in joint steps, sees nothing and is pushed but not randomised."""
    if control != "joint_delta":
        raise SimulationError(f"robot '{HUMANOID}' needs sim.control joint_delta, got {control}")
    if backend == "mujoco":
        _require_cpu(backend, device)
    if camera is not None:
        raise SimulationError(f"robot '{HUMANOID}' has no camera, got sim.camera '{camera}': remove it")
    if randomize is not None:
        from sim.randomize import require_supported

        require_supported(randomize, f"{backend}, robot {HUMANOID}", ())
    from sim.humanoid.env import HumanoidVecEnv

    return HumanoidVecEnv(tasks, num_envs, workers, horizon, paraphrases, backend, device)


def _require_cpu(backend: str, device: str) -> None:
    if device != "cpu":
        raise SimulationError(
            f"the {backend} backend simulates on the CPU; got device '{device}'. Set device to cpu, or backend to isaaclab"
        )
