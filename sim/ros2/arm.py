"""The arm at the table of one episode, stepped at its servo rate.

C commanded coordinates: the arm's joints [rad], then the gripper's opening from 0 to 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from sim.mujoco.physics import Physics
from sim.render import RenderContext, Renderer
from sim.robots import Robot
from sim.ros2.vendor import Imperfections, quantise
from sim.scene import CONTROL_STEPS, PHYSICS_DT_S
from sim.state import Goal, SceneState
from sim.tabletop import CAMERAS
from sim.tasks import TASKS
from sim.vec_env import SimulationError
from sim.workers.vec_env import check_name

SERVO_NS = round(1e9 * PHYSICS_DT_S)
"""One servo step [ns]."""


@dataclass(frozen=True)
class Reading:
    """What the robot's sensors say."""

    position: np.ndarray
    """`(C,)` [rad], and the gripper's opening."""
    velocity: np.ndarray
    """`(C,)` [1/s]."""
    effort: np.ndarray
    """`(C,)` [N·m], and the mean finger force [N]."""


@dataclass(frozen=True)
class Episode:
    """How the running task stands, by its own success function."""

    task: str
    seed: int
    instruction: str
    steps: int
    """Control steps of the task since the reset."""
    horizon: int
    success: bool
    """Whether the task was solved at some control step up to its horizon."""
    success_now: bool
    """Whether it was at the last one."""


class Arm:
    """One robot, one table, one episode at a time."""

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
        check_name("tabletop task", task, tuple(TASKS))
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
        episode, task = self.episode, TASKS[self.episode.task]
        now, steps = bool(task.success(state, self._goal)[0]), episode.steps + 1
        in_time = steps <= episode.horizon
        self.episode = Episode(
            episode.task, episode.seed, episode.instruction, steps, episode.horizon, episode.success or (now and in_time), now
        )


def require_cameras(names: tuple[str, ...]) -> None:
    """Raise `SimulationError` unless every name is a camera preset, and each appears once."""
    for name in names:
        check_name("camera", name, tuple(CAMERAS))
    if len(set(names)) != len(names):
        raise SimulationError(f"each camera may be given once, got {', '.join(names)}")
