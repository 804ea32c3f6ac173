"""One G1 in MuJoCo: reset, step, and what it feels; and one for each environment of a worker."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import mujoco
import numpy as np

from sim.humanoid import stance
from sim.humanoid.g1 import ARM_DOF, ARM_JOINTS, BODY_JOINTS, CONTROL_STEPS, home
from sim.humanoid.model import HAND_POINT, HANDS, HEIGHT, PELVIS, TORSO, compiled
from sim.humanoid.pushes import push
from sim.unstable import UNSTABLE
from sim.vec_env import SimulationError

STATE = mujoco.mjtState.mjSTATE_INTEGRATION
FALLEN_M = 0.55
"""Height of the pelvis below which the robot has fallen."""
UPRIGHT = 0.7
"""Cosine of the pelvis' tilt below which it has."""
ARMS_HOME = np.array(home(ARM_JOINTS))


class Body:
    """The robot on its floor. It stands by itself; whoever steps it commands the arms."""

    def __init__(self) -> None:
        self.model = compiled()
        self.data = mujoco.MjData(self.model)
        self._arms_q = np.array([self.model.joint(name).qposadr[0] for name in ARM_JOINTS])
        self._arms_v = np.array([self.model.joint(name).dofadr[0] for name in ARM_JOINTS])
        self._body_q = np.array([self.model.joint(name).qposadr[0] for name in BODY_JOINTS])
        self._pelvis, self._torso = self.model.body(PELVIS).id, self.model.body(TORSO).id
        self._hands = [self.model.body(name).id for name in HANDS]
        self._warnings = [self.data.warning[kind] for kind in UNSTABLE]
        self._seed = 0
        self.limits = np.array([self.model.joint(name).range for name in ARM_JOINTS])
        """`(14, 2)` range of each arm joint [rad]."""

    def reset(self, seed: int, offset: np.ndarray) -> None:
        """Stand at home, arms off it by `offset` `(14,)` [rad]; `seed` decides the pushes."""
        mujoco.mj_resetData(self.model, self.data)
        self._seed = seed
        self.data.qpos[:7] = (0.0, 0.0, HEIGHT, 1.0, 0.0, 0.0, 0.0)
        self.data.qpos[self._body_q] = stance.STANDING
        self.data.qpos[self._arms_q] = np.clip(ARMS_HOME + offset, *self.limits.T)
        self.command(self.arms)
        self._locate()

    def command(self, arms: np.ndarray) -> None:
        """Where the arms' servos are to go, `(14,)` [rad]."""
        self.data.ctrl[len(BODY_JOINTS) :] = arms

    def step(self, steps: int = CONTROL_STEPS) -> None:
        """Some physics steps; balance is kept at each. Raises `SimulationError` when the physics diverges."""
        for _ in range(steps):
            self.data.ctrl[: len(BODY_JOINTS)] = stance.targets(self.down, self.data.qvel[3:6])
            self.data.xfrc_applied[self._torso, :3] = push(self._seed, self.data.time)
            mujoco.mj_step(self.model, self.data)
        self._locate()
        if any(warning.number for warning in self._warnings) or not math.isfinite(self.data.qpos.sum()):
            raise SimulationError("the physics diverged")

    @property
    def arms(self) -> np.ndarray:
        """`(14,)` positions [rad]."""
        return self.data.qpos[self._arms_q].copy()

    @property
    def arm_rates(self) -> np.ndarray:
        """`(14,)` [rad/s]."""
        return self.data.qvel[self._arms_v].copy()

    @property
    def arm_efforts(self) -> np.ndarray:
        """`(14,)` [N·m]."""
        return self.data.qfrc_actuator[self._arms_v].copy()

    @property
    def down(self) -> np.ndarray:
        """`(3,)` unit vector of gravity in the pelvis' frame, from its coordinates: poses are known only after the last step of several."""
        return down(self.data.qpos[3:7])

    @property
    def standing(self) -> bool:
        """Whether it has not fallen."""
        return bool(self.data.qpos[2] > FALLEN_M and -self.down[2] > UPRIGHT)

    @property
    def hands(self) -> np.ndarray:
        """`(2, 3)` left and right hand in the pelvis' frame [m]."""
        return np.stack([self._rotation.T @ (self._point(hand) - self.data.xpos[self._pelvis]) for hand in self._hands])

    def hand_jacobians(self) -> np.ndarray:
        """`(2, 3, 7)` velocity of each hand in the pelvis' frame per velocity of its arm's joints."""
        found, full = [], np.empty((3, self.model.nv))
        for side, hand in enumerate(self._hands):
            mujoco.mj_jac(self.model, self.data, full, None, self._point(hand), hand)
            found.append(self._rotation.T @ full[:, self._arms_v[side * ARM_DOF : (side + 1) * ARM_DOF]])
        return np.stack(found)

    def to_world(self, points: np.ndarray) -> np.ndarray:
        """`(n, 3)` points in the pelvis' frame, in the world's [m]."""
        return self.data.xpos[self._pelvis] + points @ self._rotation.T

    def save(self) -> np.ndarray:
        """Everything that stepping depends on, besides the seed."""
        saved = np.empty(mujoco.mj_stateSize(self.model, STATE))
        mujoco.mj_getState(self.model, self.data, saved, STATE)
        return saved

    def load(self, seed: int, saved: np.ndarray) -> None:
        """Continue from what `save` returned, bit by bit."""
        self._seed = seed
        for warning in self._warnings:  # a divergence elsewhere is not this state's
            warning.number = 0
        mujoco.mj_setState(self.model, self.data, saved, STATE)
        self._locate()

    def show(self, coordinates: np.ndarray, velocities: np.ndarray) -> None:
        """Be where another simulator has brought this robot: `(36,)` and `(35,)`, as MuJoCo counts them. To be looked at, not stepped."""
        self.data.qpos, self.data.qvel = coordinates, velocities
        self._locate()

    @property
    def _rotation(self) -> np.ndarray:
        """`(3, 3)` from the pelvis' frame to the world's."""
        return self.data.xmat[self._pelvis].reshape(3, 3)

    def _point(self, hand: int) -> np.ndarray:
        return self.data.xpos[hand] + self.data.xmat[hand].reshape(3, 3) @ HAND_POINT

    def _locate(self) -> None:
        """Bring poses up to date with the coordinates, and nothing else, so that stepping on is not disturbed."""
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)


class Bodies:
    """A robot in MuJoCo for each environment, behind `sim.humanoid.episodes.World`."""

    def __init__(self) -> None:
        self._bodies: defaultdict[int, Body] = defaultdict(Body)
        self.limits = Body().limits
        """As `World`."""

    def start(self, ids: Sequence[int], seeds: Sequence[int], offsets: Sequence[np.ndarray]) -> None:
        """As `World`."""
        for env, seed, offset in zip(ids, seeds, offsets, strict=True):
            self._bodies[env].reset(seed, offset)

    def step(self, ids: Sequence[int], commands: np.ndarray) -> list[bool]:
        """As `World`."""
        return [self._broke(self._bodies[env], command) for env, command in zip(ids, commands, strict=True)]

    def look(self, env: int) -> Body:
        """As `World`."""
        return self._bodies[env]

    def save(self, ids: Sequence[int]) -> list[np.ndarray]:
        """As `World`."""
        return [self._bodies[env].save() for env in ids]

    def load(self, ids: Sequence[int], seeds: Sequence[int], saved: Sequence[np.ndarray]) -> None:
        """As `World`."""
        for env, seed, state in zip(ids, seeds, saved, strict=True):
            self._bodies[env].load(seed, state)

    @staticmethod
    def _broke(body: Body, command: np.ndarray) -> bool:
        """Step a body; whether the physics diverged."""
        body.command(command)
        try:
            body.step()
        except SimulationError:
            return True
        return False


def down(quat_wxyz: np.ndarray) -> np.ndarray:
    """`(..., 3)` unit vector of gravity in a frame that is turned by `(..., 4)`."""
    w, x, y, z = np.moveaxis(quat_wxyz, -1, 0)
    return np.stack([2 * (w * y - x * z), -2 * (w * x + y * z), 2 * (x * x + y * y) - 1], -1)
