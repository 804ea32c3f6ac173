"""Meta-World behind the `VecEnv` contract: worker processes simulate and render, this side only talks to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from policies.interface import ActionSpec, Entry
from sim.metaworld.instructions import Paraphrases
from sim.metaworld.tasks import CAMERAS, TASKS
from sim.vec_env import EnvSpec
from sim.workers.process import WorkerProcess
from sim.workers.vec_env import Slot, WorkerVecEnv, check_name, require_positive

STATE_NAMES = ("hand_x [m]", "hand_y [m]", "hand_z [m]", "gripper_opening")
STATE_LOW, STATE_HIGH = (-0.525, 0.348, -0.0525, 0.0), (0.525, 1.025, 0.7, 1.0)
"""The library's hand workspace in the world frame; gripper opening from closed (0) to open (1)."""
ACTION_NAMES = ("dx", "dy", "dz", "gripper")


@dataclass(frozen=True)
class Settings:
    """What all workers of one `MetaworldVecEnv` share."""

    image_px: int
    camera: str
    horizon: int
    paraphrases: Paraphrases


def entry_names(camera: str) -> dict[str, str]:
    """Observation entry of each array that workers return; the names are LeRobot's."""
    return {"image": f"observation.images.{camera}", "state": "observation.state", "task": "task"}


def make_spec(camera: str, image_px: int) -> EnvSpec:
    """What a Meta-World environment shows and accepts."""
    names = entry_names(camera)
    image = Entry(name=names["image"], kind="image", shape=(image_px, image_px, 3), frame=camera)
    state = Entry(name=names["state"], kind="state", shape=(4,), names=STATE_NAMES, low=STATE_LOW, high=STATE_HIGH, frame="world")
    text = Entry(name=names["task"], kind="text")
    action = ActionSpec(names=ACTION_NAMES, representation="end_effector_delta", low=(-1.0,) * 4, high=(1.0,) * 4)
    return EnvSpec(embodiment="metaworld-sawyer", entries=(image, state, text), action=action, control_hz=80.0)


class MetaworldVecEnv(WorkerVecEnv):
    """N Meta-World environments. `privileged` is the library's own observation `(n, 39)`: two frames of hand and objects, and the goal."""

    def __init__(
        self,
        tasks: Sequence[str],
        num_envs: int,
        workers: int = 2,
        image_px: int = 64,
        camera: str = "corner2",
        horizon: int = 160,
        paraphrases: Paraphrases = "train",
    ) -> None:
        """Start the workers.

        Args:
            tasks: names of the tasks that resets may ask for, such as "drawer-open".
            num_envs: N.
            workers: physics processes; at most N are started.
            image_px: height and width of images [pixel].
            camera: name of a camera preset.
            horizon: control steps after which an episode is truncated.
            paraphrases: which instruction phrasings are drawn.
        """
        for task in tasks:
            check_name("Meta-World task", task, TASKS)
        check_name("camera", camera, tuple(CAMERAS))
        check_name("set of paraphrases", paraphrases, ("train", "held_out"))
        require_positive(num_envs=num_envs, workers=workers, image_px=image_px, horizon=horizon)
        settings = Settings(image_px, camera, horizon, paraphrases)
        processes = [WorkerProcess("sim.metaworld.worker", settings) for _ in range(min(workers, num_envs))]
        super().__init__(make_spec(camera, image_px), tasks, num_envs, processes, entry_names(camera), Slot, horizon)
