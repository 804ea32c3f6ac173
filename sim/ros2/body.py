"""The simulated arm of one episode as something to rehearse on: a body that is stepped, felt and seen (`robot.rehearsal.Body`)."""

from __future__ import annotations

import numpy as np

from sim.robots import ROBOTS
from sim.ros2.arm import Arm
from sim.ros2.plant import SERVO_NS
from sim.ros2.vendor import Imperfections
from sim.workers.vec_env import check_name


class ArmBody:
    """Made once and reset for every episode; its coordinates are the arm's joints [rad] and the gripper's opening."""

    step_s = SERVO_NS / 1e9

    def __init__(self, robot: str, image_px: int) -> None:
        """Raises `SimulationError` for a robot that is none of the suite's arms."""
        check_name("arm at the table", robot, tuple(ROBOTS))
        self._arm = Arm(ROBOTS[robot], Imperfections(), image_px)
        self.over = False
        """The task was solved at some control step."""

    def reset(self, task: str, seed: int) -> str:
        """Start an episode. Returns its instruction."""
        self._arm.reset(task, seed)
        self.over = False
        return self._arm.episode.instruction

    @property
    def home(self) -> np.ndarray:
        """Where the joints are right after a reset, gripper open."""
        return self._arm.home

    @property
    def horizon(self) -> int:
        """Control steps that the task gives in training."""
        return self._arm.episode.horizon

    def step(self, target: np.ndarray) -> None:
        """One servo step."""
        self._arm.step(target)
        self.over = self.over or self._arm.episode.success_now

    def joints(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions and velocities."""
        reading = self._arm.read()
        return reading.position, reading.velocity

    def image(self, camera: str) -> np.ndarray:
        """`(H, W, 3)` uint8, RGB."""
        return self._arm.render(camera)

    def close(self) -> None:
        """Free rendering memory."""
        self._arm.close()
