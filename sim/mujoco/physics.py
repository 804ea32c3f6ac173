"""One scene in MuJoCo: reset, step, and its state as numbers. B is always one here; J joints, M bodies, F fixtures."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
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
READ = ("qpos", "qvel", "xpos", "xquat", "mocap_pos")
"""What of MuJoCo's data a state is made of, besides the tool's position and Jacobian."""
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
        self._hand = model.body(robot.hand).id
        self._bodies = _span([model.body(body.name).id for body in scene.bodies])
        self._free = np.array([model.joint(body.name).qposadr[0] for body in scene.bodies], int)
        self._body_v = np.array([model.joint(body.name).dofadr[0] for body in scene.bodies], int)[:, None] + np.arange(3)
        self._fixtures = _span([int(model.joint(fixture.name).qposadr[0]) for fixture in scene.fixtures])
        self._mocap = _span([int(model.body(fixture.name).mocapid[0]) for fixture in scene.fixtures])
        self._warnings = [self.data.warning[kind] for kind in UNSTABLE]
        self._view = {name: getattr(self.data, name) for name in (*READ, "xmat", "ctrl")}
        """The data's own memory: asking MuJoCo for it takes longer than reading it."""
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
        self._view["ctrl"][:] = targets

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
        if self.warned or not math.isfinite(self._view["qpos"].sum()):
            raise SimulationError(DIVERGED)

    def advance(self, steps: int) -> None:
        """`step` without looking whether what comes of it is finite."""
        mujoco.mj_step(self.model, self.data, steps)
        self._locate()

    @property
    def warned(self) -> bool:
        """Whether MuJoCo has met a coordinate that is not finite, or huge, since the last reset."""
        return any(warning.number for warning in self._warnings)

    def state(self) -> Numbers:
        """What `SceneState` holds, without the batch dimension."""
        return {name: rows[0] for name, rows in states([self]).items()}

    def read(self, raw: Numbers, row: int) -> None:
        """Write where everything is into one row of arrays that are named as MuJoCo names them."""
        view, hand = self._view, self._hand
        for name in READ:
            raw[name][row] = view[name]
        tcp = raw["tcp"][row]
        tcp[:] = view["xpos"][hand] + view["xmat"][hand].reshape(3, 3) @ self._robot.tcp
        jacobian = raw["jacobian"][row]
        mujoco.mj_jac(self.model, self.data, jacobian[:3], jacobian[3:], tcp, hand)

    def named(self, raw: Numbers) -> Numbers:
        """What `SceneState` holds, from what `read` wrote."""
        return {
            "joint_pos": raw["qpos"][:, self._q],
            "joint_vel": raw["qvel"][:, self._v],
            "opening": raw["qpos"][:, self._fingers].mean(1) / self._robot.finger_travel,
            "tcp_pos": raw["tcp"],
            "tcp_quat": raw["xquat"][:, self._hand],
            "jacobian": raw["jacobian"][:, :, self._v],
            "body_pos": raw["xpos"][:, self._bodies],
            "body_quat": raw["xquat"][:, self._bodies],
            "body_vel": raw["qvel"][:, self._body_v],
            "fixture_pos": raw["mocap_pos"][:, self._mocap],
            "fixture": raw["qpos"][:, self._fixtures],
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


def states(scenes: Sequence[Physics]) -> Numbers:
    """What `SceneState` holds, of several environments of one scene `(n, ...)`."""
    first, n = scenes[0], len(scenes)
    raw = {name: np.empty((n, *getattr(first.data, name).shape)) for name in READ}
    raw |= {"tcp": np.empty((n, 3)), "jacobian": np.empty((n, 6, first.model.nv))}
    for row, physics in enumerate(scenes):
        physics.read(raw, row)
    return first.named(raw)


def _span(places: list[int]) -> slice | np.ndarray:
    """Places in an array; as a slice, which reads faster, where they follow each other."""
    first, count = (places[0], len(places)) if places else (0, 0)
    return slice(first, first + count) if places == list(range(first, first + count)) else np.array(places, int)
