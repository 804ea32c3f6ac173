"""LIBERO behind the `VecEnv` contract: worker processes simulate and render, this side only talks to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from policies.interface import ActionSpec, Entry
from sim.vec_env import EnvSpec
from sim.workers.process import WorkerProcess
from sim.workers.vec_env import Slot, WorkerVecEnv, check_name, require_positive

SUITES = {
    "libero_spatial": (10, 280),
    "libero_object": (10, 280),
    "libero_goal": (10, 300),
    "libero_10": (10, 520),
    "libero_90": (90, 400),
}
"""Tasks of each suite, and after how many control steps LeRobot ends an episode of it."""

TASKS = {f"{suite}_{index}": (suite, index) for suite, (count, _) in SUITES.items() for index in range(count)}
"""Suite and place within it of each task, such as `libero_object_0`."""

STARTS = 50
"""Initial states that come with each task."""

CAMERAS = {
    "both": {"image": "agentview", "image2": "robot0_eye_in_hand"},
    "front": {"image": "agentview"},
}
"""Cameras by preset: LeRobot's name of each, and the simulator's."""

STATE_NAMES = (
    *(f"hand_{axis} [m]" for axis in "xyz"),
    *(f"hand_turn_{axis} [rad]" for axis in "xyz"),
    "left_finger [m]",
    "right_finger [m]",
)
STATE_LOW, STATE_HIGH = (-0.6, -0.6, 0.0, -6.3, -6.3, -6.3, 0.0, -0.04), (0.6, 0.6, 1.6, 6.3, 6.3, 6.3, 0.04, 0.0)
"""Where the hand can be in the suites' scenes, whose tables differ in height; a rotation vector's length is at most 2π."""
ACTION_NAMES = ("dx", "dy", "dz", "turn_x", "turn_y", "turn_z", "gripper")


@dataclass(frozen=True)
class Settings:
    """What all workers of one `LiberoVecEnv` share."""

    image_px: int
    camera: str
    horizon: int | None
    """Control steps of an episode; the suite's own if `None`."""


def entry_names(camera: str) -> dict[str, str]:
    """Observation entry of each array that workers return; the names are LeRobot's."""
    return {key: f"observation.images.{key}" for key in CAMERAS[camera]} | {"state": "observation.state", "task": "task"}


def make_spec(camera: str, image_px: int) -> EnvSpec:
    """What a LIBERO environment shows and accepts: LeRobot's features of it."""
    names = entry_names(camera)
    images = [Entry(name=names[key], kind="image", shape=(image_px, image_px, 3), frame=frame) for key, frame in CAMERAS[camera].items()]
    state = Entry(name=names["state"], kind="state", shape=(8,), names=STATE_NAMES, low=STATE_LOW, high=STATE_HIGH, frame="world")
    text = Entry(name=names["task"], kind="text")
    action = ActionSpec(names=ACTION_NAMES, representation="end_effector_delta", low=(-1.0,) * 7, high=(1.0,) * 7)
    return EnvSpec(embodiment="libero-panda", entries=(*images, state, text), action=action, control_hz=20.0)


class LiberoVecEnv(WorkerVecEnv):
    """N LIBERO environments. `privileged` is `(n, 22)`: the state entry and the poses of what the task is about."""

    test_states = STARTS

    def __init__(
        self,
        tasks: Sequence[str],
        num_envs: int,
        workers: int = 2,
        image_px: int = 64,
        camera: str = "both",
        horizon: int | None = None,
    ) -> None:
        """Start the workers; LIBERO is installed when it is needed for the first time.

        Args:
            tasks: names of the tasks that resets may ask for, such as "libero_object_0".
            num_envs: N.
            workers: physics processes; at most N are started.
            image_px: height and width of images [pixel]; LIBERO's data sets have 256.
            camera: name of a camera preset.
            horizon: control steps after which an episode is truncated; each suite's own if `None`.
        """
        for task in tasks:
            check_name("LIBERO task", task, tuple(TASKS))
        check_name("camera", camera, tuple(CAMERAS))
        require_positive(num_envs=num_envs, workers=workers, image_px=image_px, **({} if horizon is None else {"horizon": horizon}))
        longest = horizon or max((SUITES[TASKS[task][0]][1] for task in tasks), default=0)
        settings = Settings(image_px, camera, horizon)
        processes = [WorkerProcess("sim.libero.worker", settings) for _ in range(min(workers, num_envs))]
        super().__init__(make_spec(camera, image_px), tasks, num_envs, processes, entry_names(camera), Slot, longest)
