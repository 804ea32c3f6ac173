"""A small real task: MuJoCo physics of a point mass on a table that must be pushed onto a target, seen as a state.

The scripted expert is a damped spring. An episode takes milliseconds, so that tests can train on it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

from policies.interface import ActionSpec, Entry, Observation
from sim.resets import State
from sim.vec_env import ChunkStep, Demonstration, EnvSpec, Render, SimulationError
from tests.vla_rl.independent import Independent

HORIZON, SUBSTEPS, RADIUS, FORCE = 20, 5, 0.08, 2.0
XML = """
<mujoco><option timestep="0.02" gravity="0 0 0"/><worldbody><body>
<joint name="x" type="slide" axis="1 0 0" damping="1"/><joint name="y" type="slide" axis="0 1 0" damping="1"/>
<geom size="0.05" mass="0.5"/></body></worldbody>
<actuator><motor joint="x"/><motor joint="y"/></actuator></mujoco>
"""
NAMES = ("x [m]", "y [m]", "vx [m/s]", "vy [m/s]", "target x [m]", "target y [m]")
ENV_SPEC = EnvSpec(
    embodiment="point-mass",
    entries=(
        Entry(name="observation.images.none", kind="image", shape=(16, 16, 3)),
        Entry(name="observation.state", kind="state", shape=(6,), names=NAMES, low=(-1.0,) * 6, high=(1.0,) * 6),
        Entry(name="task", kind="text"),
    ),
    action=ActionSpec(names=("fx", "fy"), representation="absolute", low=(-1.0, -1.0), high=(1.0, 1.0)),
    control_hz=10,
)


@dataclass(frozen=True)
class _Done[T]:
    compute: Callable[[], T]

    def result(self) -> T:
        return self.compute()


class PointMassEnv(Independent):
    """`VecEnv` of point masses."""

    spec = ENV_SPEC
    tasks = ("push",)

    def __init__(self, num_envs: int) -> None:
        self.num_envs = num_envs
        self.model = mujoco.MjModel.from_xml_string(XML)
        self.data = [mujoco.MjData(self.model) for _ in range(num_envs)]
        self.target = np.zeros((num_envs, 2))
        self.steps = np.full(num_envs, HORIZON)

    def reset(self, env_ids: Sequence[int], seeds: Sequence[int], tasks: Sequence[str]) -> Observation:
        for env, seed in zip(env_ids, seeds, strict=True):
            rng = np.random.default_rng(seed)
            mujoco.mj_resetData(self.model, self.data[env])
            self.data[env].qpos[:] = rng.uniform(-0.6, 0.6, 2)
            self.target[env] = rng.uniform(-0.6, 0.6, 2)
            self.steps[env] = 0
        return self._observe(env_ids)

    def submit_reset(
        self, env_ids: Sequence[int], seeds: Sequence[int], tasks: Sequence[str], starts: Sequence[State | None] | None = None
    ) -> _Done[Observation]:
        assert starts is None or not any(starts)
        return _Done(lambda: self.reset(env_ids, seeds, tasks))

    def submit_chunk(self, actions: np.ndarray, env_ids: Sequence[int], render: Render = "last") -> _Done[ChunkStep]:
        return _Done(lambda: self.step_chunk(actions, env_ids, render))

    def step_chunk(self, actions: np.ndarray, env_ids: Sequence[int], render: Render = "last") -> ChunkStep:
        n, length, _ = actions.shape
        reward, success, executed = np.zeros((n, length), np.float32), np.zeros((n, length), bool), np.zeros(n, np.int64)
        for row, env in enumerate(env_ids):
            if self.steps[env] >= HORIZON:
                raise SimulationError("reset first")
            for k, action in enumerate(actions[row]):
                self._step(env, action)
                self.steps[env] += 1
                away = np.linalg.norm(self.data[env].qpos - self.target[env])
                reward[row, k], success[row, k], executed[row] = -away, away < RADIUS, k + 1
                if success[row, k] or self.steps[env] == HORIZON:
                    break
        terminated = success.any(1)
        ended = self.steps[list(env_ids)] >= HORIZON
        self.steps[[env for env, done in zip(env_ids, terminated, strict=True) if done]] = HORIZON
        return ChunkStep(self._observe(env_ids), reward, success, terminated, ended & ~terminated, executed, np.zeros(len(executed), bool))

    def snapshot(self, env_ids: Sequence[int]) -> list[Any]:
        return [(self.data[i].qpos.copy(), self.data[i].qvel.copy(), self.target[i].copy(), self.steps[i]) for i in env_ids]

    def restore(self, env_ids: Sequence[int], snapshots: Sequence[Any]) -> Observation:
        for i, (qpos, qvel, target, steps) in zip(env_ids, snapshots, strict=True):
            self.data[i].qpos[:], self.data[i].qvel[:], self.target[i], self.steps[i] = qpos, qvel, target, steps
        return self._observe(env_ids)

    def expert_chunk(self, env_ids: Sequence[int], length: int) -> np.ndarray:
        before, chunks = self.snapshot(env_ids), np.zeros((len(env_ids), length, 2), np.float32)
        for row, env in enumerate(env_ids):
            for k in range(length):
                data = self.data[env]
                chunks[row, k] = np.clip(4 * (self.target[env] - data.qpos) - 2 * data.qvel, -1, 1)
                self._step(env, chunks[row, k])
        self.restore(env_ids, before)
        return chunks

    def submit_demonstrations(self, env_ids: Sequence[int], noise_std: float, render: bool = True) -> list[_Done[Demonstration]]:
        raise SimulationError("not needed here")

    def privileged(self, env_ids: Sequence[int]) -> np.ndarray:
        return self._observe(env_ids)["observation.state"]

    def close(self) -> None:
        pass

    def _step(self, env: int, action: np.ndarray) -> None:
        self.data[env].ctrl[:] = FORCE * np.clip(action, -1, 1)
        mujoco.mj_step(self.model, self.data[env], SUBSTEPS)

    def _observe(self, env_ids: Sequence[int]) -> Observation:
        state = [np.concatenate([self.data[i].qpos, self.data[i].qvel, self.target[i]]) for i in env_ids]
        return {
            "observation.images.none": np.zeros((len(env_ids), 16, 16, 3), np.uint8),
            "observation.state": np.array(state, np.float32),
            "task": np.array(["push the mass onto the target"] * len(env_ids)),
        }
