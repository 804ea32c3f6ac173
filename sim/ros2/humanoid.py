"""The G1 of one episode, stepped at its servo rate: whoever commands it moves the arms, it stands by itself.

C commanded coordinates: the joints of both arms [rad]
"""

from __future__ import annotations

import numpy as np

from sim.humanoid import hands
from sim.humanoid.body import Body
from sim.humanoid.env import TASKS
from sim.humanoid.g1 import ARM_JOINTS, CONTROL_STEPS, part
from sim.humanoid.model import MOTORS
from sim.ros2.plant import Episode, Reading
from sim.ros2.vendor import Imperfections, quantise
from sim.vec_env import SimulationError
from sim.workers.vec_env import check_name


class Humanoid:
    """A `Plant`: one G1, one episode at a time. It has no camera."""

    tasks = tuple(TASKS)
    first_task = tasks[0]
    grippers = 0

    def __init__(self, settings: Imperfections) -> None:
        self._body, self._settings = Body(), settings
        self._servo_steps = 0
        self._goal = np.zeros((2, 3))
        self.episode: Episode
        self._wear()

    def reset(self, task: str, seed: int) -> None:
        """Start an episode. The initial state, the pushes and the instruction depend on the seed alone."""
        check_name("task of the humanoid", task, self.tasks)
        start = hands.Start.of(seed)
        self._body.reset(seed, start.offset)
        self._goal, self._servo_steps = start.goal, 0
        self.episode = Episode(task, seed, start.instruction(seed, hands.INSTRUCTIONS), 0, TASKS[task], False, False)

    @property
    def home(self) -> np.ndarray:
        """`(C,)` that the servos hold right after a reset: where the arms are."""
        return self._body.arms

    def step(self, target: np.ndarray) -> None:
        """One servo step towards `target` `(C,)`. Raises `SimulationError` when the physics diverges."""
        self._body.command(target)
        self._body.step(1)
        self._servo_steps += 1
        if self._servo_steps % CONTROL_STEPS == 0:
            self.episode = self.episode.after_step(hands.success(self._body, self._goal))

    def read(self) -> Reading:
        """The arms' encoders, their rates, and motor efforts."""
        body = self._body
        return Reading(quantise(body.arms, self._settings.encoder_step_rad), body.arm_rates, body.arm_efforts)

    def render(self, camera: str) -> np.ndarray:
        """Raises `SimulationError`."""
        raise SimulationError(f"the simulated humanoid has no camera '{camera}'")

    def close(self) -> None:
        """Nothing to free."""

    def _wear(self) -> None:
        """Put friction and weak motors into this process's model."""
        model = self._body.model
        for name in ARM_JOINTS:
            joint = model.joint(name)
            model.dof_frictionloss[joint.dofadr[0]] = self._settings.dry_friction_nm
            limit = self._settings.effort_scale * MOTORS[part(name)].effort
            model.jnt_actfrcrange[joint.id] = (-limit, limit)
