"""Vectorised simulation environments behind one contract (`sim.vec_env`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from sim.vec_env import SimulationError

if TYPE_CHECKING:
    from sim.metaworld import MetaworldVecEnv

BACKENDS = ("metaworld",)


def make(
    backend: str,
    tasks: Sequence[str],
    num_envs: int,
    workers: int = 2,
    image_px: int = 64,
    camera: str = "corner2",
    horizon: int = 160,
    paraphrases: Literal["train", "held_out"] = "train",
) -> MetaworldVecEnv:
    """Start environments of a backend, which is imported only now.

    Args:
        backend: name of the simulator backend.
        tasks: task names of the backend that resets may ask for.
        num_envs: environments simulated at once.
        workers: physics processes.
        image_px: height and width of images [pixel].
        camera: camera preset of the backend.
        horizon: control steps after which an episode is truncated.
        paraphrases: instruction phrasings drawn at reset.

    Raises:
        SimulationError: unknown backend, task or camera, or a number below 1.
    """
    if backend not in BACKENDS:
        raise SimulationError(f"unknown simulator backend '{backend}'; allowed: {', '.join(BACKENDS)}")
    from sim.metaworld import MetaworldVecEnv

    return MetaworldVecEnv(tasks, num_envs, workers, image_px, camera, horizon, paraphrases)
