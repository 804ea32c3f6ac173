"""The arm at the table of one episode, stepped at its servo rate.

C commanded coordinates: the arm's joints [rad], then the gripper's opening from 0 to 1.
"""

from __future__ import annotations

import numpy as np
import torch

from sim.mujoco.physics import Physics
from sim.render import RenderContext, Renderer
from sim.robots import Robot
from sim.ros2.plant import Episode, Reading
from sim.ros2.vendor import Imperfections, quantise
from sim.scene import CONTROL_STEPS
from sim.state import Goal, SceneState
from sim.tabletop import CAMERAS
from sim.tasks import TASKS
from sim.workers.vec_env import check_name


class Arm:
    """A `Plant`: one robot, one table, one episode at a time."""

    tasks = tuple(TASKS)
    first_task = "lift"
    grippers = 1

    def __init__(self, robot: Robot, settings: Imperfections, image_px: int) -> None:
        torch.set_num_threads(1)
        self._robot, self._settings, self._image_px = robot, settings, image_px
        self._physics: Physics
        self._goal: Goal = {}
        self.episode: Episode
        self._context: RenderContext | None = None
        self._renderers: dict[tuple[str, str], Renderer] = {}
        self._servo_steps = 0

    def reset(self, task: str, seed: int) -> None:
        """Start an episode. The initial state and the instruction depend on (task, seed) alone."""
        check_name("tabletop task", task, self.tasks)
        chosen = TASKS[task]
        start = chosen.draw(seed)
        self._physics = Physics(chosen.scene, self._robot)
        self._wear()
        self._physics.reset(start)
        self._goal = {name: torch.tensor([value]) for name, value in start.goal.items()}
        self._servo_steps = 0
        self.episode = Episode(task, seed, chosen.instruction(start, seed, "train"), 0, chosen.horizon, False, False)

    @property
    def home(self) -> np.ndarray:
        """`(C,)` that the servos hold right after a reset: where the joints are, gripper open."""
        return np.array([*self._physics.state()["joint_pos"], 1.0])

    def step(self, target: np.ndarray) -> None:
        """One servo step towards `target` `(C,)`. Raises `SimulationError` when the physics diverges."""
        self._physics.command(target[:-1], float(target[-1]))
        self._physics.step(1)
        self._servo_steps += 1
        if self._servo_steps % CONTROL_STEPS == 0:
            self._judge()

    def read(self) -> Reading:
        """Encoders, their rates, and motor efforts."""
        model, data, robot = self._physics.model, self._physics.data, self._robot
        arm = [model.joint(name) for name in robot.joints]
        fingers = [model.joint(name) for name in robot.fingers]
        step = self._settings.encoder_step_rad
        position = quantise(np.array([data.qpos[joint.qposadr[0]] for joint in arm]), step)
        opening = np.mean([data.qpos[joint.qposadr[0]] for joint in fingers]) / robot.finger_travel
        velocity = [data.qvel[joint.dofadr[0]] for joint in arm]
        closing = np.mean([data.qvel[joint.dofadr[0]] for joint in fingers]) / robot.finger_travel
        effort = [data.qfrc_actuator[joint.dofadr[0]] for joint in arm]
        grip = np.mean([data.qfrc_actuator[joint.dofadr[0]] for joint in fingers])
        return Reading(np.array([*position, opening]), np.array([*velocity, closing]), np.array([*effort, grip]))

    def render(self, camera: str) -> np.ndarray:
        """`(H, W, 3)` uint8 from a camera preset."""
        if self._context is None:
            self._context = RenderContext(self._image_px)
        key = (camera, TASKS[self.episode.task].scene.name)
        if key not in self._renderers:
            self._renderers[key] = Renderer(self._physics.model, CAMERAS[camera], self._image_px)
        return self._renderers[key].render(self._physics.data)

    def close(self) -> None:
        """Free rendering memory."""
        self._renderers.clear()
        if self._context is not None:
            self._context.close()

    def _wear(self) -> None:
        """Put friction and weak motors into this process's model."""
        model = self._physics.model
        for name, effort in zip(self._robot.joints, self._robot.effort, strict=True):
            joint, limit = model.joint(name), self._settings.effort_scale * effort
            model.dof_frictionloss[joint.dofadr[0]] = self._settings.dry_friction_nm
            model.jnt_actfrcrange[joint.id] = (-limit, limit)

    def _judge(self) -> None:
        """Ask the task, as its environments do after every control step."""
        numbers = self._physics.state()
        state = SceneState(**{name: torch.as_tensor(np.asarray(value)[None], dtype=torch.float32) for name, value in numbers.items()})
        self.episode = self.episode.after_step(bool(TASKS[self.episode.task].success(state, self._goal)[0]))


def require_cameras(names: tuple[str, ...]) -> None:
    """Raise `SimulationError` unless every name is a camera preset."""
    for name in names:
        check_name("camera", name, tuple(CAMERAS))
