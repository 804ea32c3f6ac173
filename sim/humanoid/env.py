"""The humanoid behind the `VecEnv` contract: worker processes simulate, this side only talks to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from policies.interface import ActionSpec, Entry
from sim import HUMANOID
from sim.humanoid.g1 import ARM_JOINTS, CONTROL_HZ, home
from sim.settings import Paraphrases
from sim.vec_env import EnvSpec
from sim.workers.process import WorkerProcess
from sim.workers.vec_env import WorkerVecEnv, check_name, require_positive

TASKS = {"hands": 200}
"""Names, and control steps of an episode."""
BACKENDS = ("mujoco", "isaaclab")
NAMES = {"state": "observation.state", "task": "task"}
"""Observation entry of each array that workers return; the names are LeRobot's."""
JOINT_RANGE = 1.5
"""Half the range, around home, that joint angles are normalised by [rad]; nothing is clipped."""
ERROR_RANGE = 0.2
"""Half the range that tracking errors are normalised by [rad]."""


@dataclass(frozen=True)
class Settings:
    """What all workers of one environment share."""

    horizon: int
    """Control steps after which an episode is truncated."""
    paraphrases: Paraphrases


@dataclass(frozen=True)
class CloneSettings:
    """Of a worker that simulates all N in Isaac Lab, where they step together."""

    episodes: Settings
    num_envs: int
    device: str
    graph: bool
    """On the CPU, replay a recorded physics step."""


@dataclass(frozen=True)
class Slot:
    """One environment: the whole state of its episode."""

    task: str
    seed: int
    instruction: str
    steps: int
    ended: bool
    command: np.ndarray
    """`(14,)` float32 where the arms' servos are told to go [rad]."""
    diverged: bool = False
    physics: Any = None
    """Of a snapshot, as its simulator wants it."""


def make_spec() -> EnvSpec:
    """What the humanoid shows and accepts: its arms' joints and an instruction, and steps of the joints. No camera."""
    n, at_home = len(ARM_JOINTS), home(ARM_JOINTS)
    state = Entry(
        name=NAMES["state"],
        kind="state",
        shape=(2 * n,),
        names=(*(f"{joint} [rad]" for joint in ARM_JOINTS), *(f"{joint}_error [rad]" for joint in ARM_JOINTS)),
        low=(*(angle - JOINT_RANGE for angle in at_home), *(-ERROR_RANGE,) * n),
        high=(*(angle + JOINT_RANGE for angle in at_home), *(ERROR_RANGE,) * n),
        frame="joints",
    )
    action = ActionSpec(names=tuple(f"d_{joint}" for joint in ARM_JOINTS), representation="delta", low=(-1.0,) * n, high=(1.0,) * n)
    return EnvSpec(HUMANOID, (state, Entry(name=NAMES["task"], kind="text")), action, CONTROL_HZ)


class HumanoidVecEnv(WorkerVecEnv):
    """N humanoids. `privileged` is arms, their rates, commands, hands, tilt and spots, `(n, 57)`."""

    def __init__(
        self,
        tasks: Sequence[str],
        num_envs: int,
        workers: int = 2,
        horizon: int | None = None,
        paraphrases: Paraphrases = "train",
        backend: Literal["mujoco", "isaaclab"] = "mujoco",
        device: str = "cpu",
        graph: bool = True,
    ) -> None:
        """Start the workers.

        Args:
            tasks: names of the tasks that resets may ask for: "hands".
            num_envs: N.
            workers: physics processes of MuJoCo; at most N are started. Isaac Lab has one.
            horizon: control steps after which an episode is truncated; the task's own if `None`.
            paraphrases: which instruction phrasings are drawn.
            backend: whose physics.
            device: where Isaac Lab simulates.
            graph: on a CPU, Isaac Lab replays a recorded physics step, which is several times faster; bit-equal to stepping eagerly.
        """
        for task in tasks:
            check_name("task of the humanoid", task, tuple(TASKS))
        check_name("set of paraphrases", paraphrases, ("train", "held_out"))
        check_name("backend of the humanoid", backend, BACKENDS)
        horizon = max(TASKS[task] for task in tasks) if horizon is None else horizon
        require_positive(num_envs=num_envs, workers=workers, horizon=horizon)
        settings, together = Settings(horizon, paraphrases), backend == "isaaclab"
        if together:
            processes = [WorkerProcess("sim.isaaclab.humanoid_worker", CloneSettings(settings, num_envs, device, graph))]
        else:
            processes = [WorkerProcess("sim.humanoid.worker", settings) for _ in range(min(workers, num_envs))]
        hosted = [tuple(dict.fromkeys(tasks))] if together else None
        super().__init__(make_spec(), tasks, num_envs, processes, NAMES, Slot, horizon, hosted=hosted)
