"""One scene in MuJoCo: reset, step, and its state as numbers. B is always one here; J joints, M bodies, F fixtures."""

from __future__ import annotations

import copy
import math
from functools import cache

import mujoco
import numpy as np

from sim.mujoco.vary import vary_physics
from sim.randomize import Variation
from sim.robots import Robot
from sim.scene import CONTROL_STEPS, Scene, build
from sim.tasks.task import Start
from sim.unstable import UNSTABLE
from sim.vec_env import SimulationError

STATE = mujoco.mjtState.mjSTATE_INTEGRATION
DIVERGED = "the physics diverged"
Numbers = dict[str, np.ndarray]


@cache
def compiled(scene: Scene, robot: Robot) -> mujoco.MjModel:
    """The model of a scene, shared by all of a process's environments that do not change it."""
    return build(scene, robot).compile()


class Physics:
    """A scene's physics state and how to read it."""

    def __init__(self, scene: Scene, robot: Robot, own_model: bool = False) -> None:
        """Load a scene; with `own_model` its physical properties can be varied."""
        self.model = copy.copy(compiled(scene, robot)) if own_model else compiled(scene, robot)
        self.data = mujoco.MjData(self.model)
        self._scene, self._robot = scene, robot
        self._variation: Variation | None = None
        model = self.model
        self._q = _span([int(model.joint(name).qposadr[0]) for name in robot.joints])
        self._v = _span([int(model.joint(name).dofadr[0]) for name in robot.joints])
        self._fingers = _span([int(model.joint(name).qposadr[0]) for name in robot.fingers])
        self._hand, self._tcp = model.body(robot.hand).id, np.array(robot.tcp)
        self._bodies = _span([model.body(body.name).id for body in scene.bodies])
        self._free = np.array([model.joint(body.name).qposadr[0] for body in scene.bodies], int)
        self._body_v = np.array([model.joint(body.name).dofadr[0] for body in scene.bodies], int)[:, None] + np.arange(3)
        self._fixtures = _span([int(model.joint(fixture.name).qposadr[0]) for fixture in scene.fixtures])
        self._mocap = _span([int(model.body(fixture.name).mocapid[0]) for fixture in scene.fixtures])
        data = self.data
        # MuJoCo's own memory: asking for it takes longer than reading it.
        self._qpos, self._ctrl, self.warnings = data.qpos, data.ctrl, data.warning.number
        self._hand_pos, self._hand_rotation = data.xpos[self._hand], data.xmat[self._hand]
        self._tool, self._jacobian = np.zeros(3), np.zeros((2, 3, model.nv))
        read = (data.qpos, data.qvel, data.xpos, data.xquat, data.mocap_pos, self._tool, self._jacobian.reshape(6, -1))
        self._memory, self._shapes = [part.reshape(-1) for part in read], [part.shape for part in read]
        *self._ends, self.width = np.cumsum([part.size for part in read]).tolist()
        self.limits = np.array([model.joint(name).range for name in robot.joints], np.float32)
        """`(J, 2)` range of each arm joint [rad]."""

    def reset(self, start: Start) -> None:
        """Put everything where an episode starts."""
        model, data = self.model, self.data
        mujoco.mj_resetData(model, data)
        data.qpos[self._q] = np.clip(np.array(self._robot.home) + start.joint_offset[: len(self._robot.joints)], *self.limits.T)
        data.qpos[self._fingers] = self._robot.finger_travel
        for address, position, yaw in zip(self._free, start.body_pos, start.body_yaw, strict=True):
            data.qpos[address : address + 7] = (*position, np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2))
        data.qpos[self._fixtures] = start.fixture
        data.mocap_pos[self._mocap] = start.fixture_pos
        self.command(data.qpos[self._q], 1.0)
        self._locate()

    def command(self, joints: np.ndarray, opening: float) -> None:
        """Set the servos' targets: arm joints `(J,)` [rad], and the gripper from 0 to 1."""
        self.drive(self.targets(joints[None], np.array([opening]))[0])

    def targets(self, joints: np.ndarray, opening: np.ndarray) -> np.ndarray:
        """What servos are told, `(n, U)`, for `(n, J)` [rad] and `(n,)`."""
        fingers = np.repeat(opening.astype(float)[:, None] * self._robot.finger_travel, self.model.nu - joints.shape[1], 1)
        return np.concatenate([joints, fingers], 1)

    def drive(self, targets: np.ndarray) -> None:
        """Tell servos `(U,)`."""
        self._ctrl[:] = targets

    def vary(self, variation: Variation) -> None:
        """Give the environment's own model the physical properties of an episode, before `reset` or `load`."""
        assert self.model is not compiled(self._scene, self._robot), "the shared model must not be varied"
        if variation != self._variation:
            vary_physics(self.model, compiled(self._scene, self._robot), self._scene, self._robot, variation)
            mujoco.mj_setConst(self.model, self.data)
            self._variation = variation

    def step(self, steps: int = CONTROL_STEPS) -> None:
        """Some physics steps, one control step's if not said. Raises `SimulationError` when the physics diverges."""
        self.advance(steps)
        if self.warnings[UNSTABLE].any() or not math.isfinite(self._qpos.sum()):
            raise SimulationError(DIVERGED)

    def advance(self, steps: int) -> None:
        """`step` without looking whether what comes of it is finite."""
        mujoco.mj_step(self.model, self.data, steps)
        self._locate()

    def state(self) -> Numbers:
        """What `SceneState` holds, without the batch dimension."""
        row = np.empty(self.width)
        self.read(row)
        return {name: rows[0] for name, rows in self.named(row[None]).items()}

    def read(self, row: np.ndarray) -> None:
        """Write where everything is into `(W,)`; one call for all, since many small ones would take longer than the copying."""
        mujoco.mju_mulMatVec3(self._tool, self._hand_rotation, self._tcp)
        self._tool += self._hand_pos
        mujoco.mj_jac(self.model, self.data, *self._jacobian, self._tool, self._hand)
        np.concatenate(self._memory, out=row)

    def named(self, rows: np.ndarray) -> Numbers:
        """What `SceneState` holds `(n, ...)`, from n rows that `read` wrote."""
        parts = np.split(rows, self._ends, axis=1)
        qpos, qvel, xpos, xquat, mocap, tool, jacobian = (
            part.reshape(len(rows), *shape) for part, shape in zip(parts, self._shapes, strict=True)
        )
        return {
            "joint_pos": qpos[:, self._q],
            "joint_vel": qvel[:, self._v],
            "opening": qpos[:, self._fingers].mean(1) / self._robot.finger_travel,
            "tcp_pos": tool,
            "tcp_quat": xquat[:, self._hand],
            "jacobian": jacobian[:, :, self._v],
            "body_pos": xpos[:, self._bodies],
            "body_quat": xquat[:, self._bodies],
            "body_vel": qvel[:, self._body_v],
            "fixture_pos": mocap[:, self._mocap],
            "fixture": qpos[:, self._fixtures],
        }

    def save(self) -> np.ndarray:
        """Everything that stepping depends on."""
        saved = np.empty(mujoco.mj_stateSize(self.model, STATE))
        mujoco.mj_getState(self.model, self.data, saved, STATE)
        return saved

    def load(self, saved: np.ndarray) -> None:
        """Continue from what `save` returned, bit by bit. Raises `SimulationError` if that was in another model."""
        size = mujoco.mj_stateSize(self.model, STATE)
        if len(saved) != size:
            raise SimulationError(f"the state has {len(saved)} numbers, scene '{self._scene.name}' has {size}: it is of another model")
        mujoco.mj_setState(self.model, self.data, saved, STATE)
        self._locate()

    def _locate(self) -> None:
        """Bring poses up to date with the coordinates, and nothing else, so that stepping on is not disturbed."""
        for update in (mujoco.mj_kinematics, mujoco.mj_comPos, mujoco.mj_camlight):
            update(self.model, self.data)


def _span(places: list[int]) -> slice | np.ndarray:
    """Places in an array; as a slice, which reads faster, where they follow each other."""
    first, count = (places[0], len(places)) if places else (0, 0)
    return slice(first, first + count) if places == list(range(first, first + count)) else np.array(places, int)
