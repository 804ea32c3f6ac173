"""A simulator whose every number can be worked out by hand: a counter that goes up by one per control step.

An episode with seed s succeeds at step s (if that lies within the horizon). The reward of step i is i. Images are
constant; the state is the counter; the scripted expert always plays 0.5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from policies.config import PolicyConfig, TokenHeadConfig
from policies.interface import ActionSpec, Entry, Observation, PolicySpec
from policies.vla import VlaPolicy
from sim.resets import State
from sim.vec_env import ChunkStep, EnvSpec, Render, SimulationError
from tests.vla_rl.independent import Independent

HORIZON = 10
ENV_SPEC = EnvSpec(
    embodiment="counter",
    entries=(
        Entry(name="observation.images.front", kind="image", shape=(16, 16, 3), frame="front"),
        Entry(name="observation.state", kind="state", shape=(1,), names=("count",), low=(0.0,), high=(10.0,)),
        Entry(name="task", kind="text"),
    ),
    action=ActionSpec(names=("a",), representation="delta", low=(-1.0,), high=(1.0,)),
    control_hz=10,
)
SPEC = PolicySpec(**{name: getattr(ENV_SPEC, name) for name in ("embodiment", "entries", "action", "control_hz")}, chunk=4, executed=3)


@dataclass(frozen=True)
class _Slot:
    task: str = ""
    goal: int = 0
    count: int = 0
    ended: bool = True


@dataclass(frozen=True)
class _Done[T]:
    compute: Callable[[], T]

    def result(self) -> T:
        return self.compute()


class CountingEnv(Independent):
    """`VecEnv` of counters."""

    spec = ENV_SPEC
    tasks = ("count", "wait")

    def __init__(self, num_envs: int) -> None:
        self.num_envs = num_envs
        self.slots = [_Slot() for _ in range(num_envs)]
        self.asked: list[tuple[int, ...]] = []

    def reset(self, env_ids: Sequence[int], seeds: Sequence[int], tasks: Sequence[str]) -> Observation:
        for env_id, seed, task in zip(env_ids, seeds, tasks, strict=True):
            self.slots[env_id] = _Slot(task, seed, 0, False)
        return self._observe(env_ids)

    def submit_reset(
        self, env_ids: Sequence[int], seeds: Sequence[int], tasks: Sequence[str], starts: Sequence[State | None] | None = None
    ) -> _Done[Observation]:
        assert starts is None or not any(starts)
        return _Done(lambda: self.reset(env_ids, seeds, tasks))

    def submit_chunk(self, actions: np.ndarray, env_ids: Sequence[int], render: Render = "last") -> _Done[ChunkStep]:
        return _Done(lambda: self.step_chunk(actions, env_ids, render))

    def step_chunk(self, actions: np.ndarray, env_ids: Sequence[int], render: Render = "last") -> ChunkStep:
        self.asked.append(tuple(env_ids))
        n, steps, _ = actions.shape
        reward, success, executed = np.zeros((n, steps), np.float32), np.zeros((n, steps), bool), np.zeros(n, np.int64)
        for row, env_id in enumerate(env_ids):
            if self.slots[env_id].ended:
                raise SimulationError("reset first")
            for k in range(steps):
                count = self.slots[env_id].count + 1
                success[row, k] = count == self.slots[env_id].goal
                self.slots[env_id] = replace(self.slots[env_id], count=count, ended=bool(success[row, k]) or count == HORIZON)
                reward[row, k], executed[row] = count, k + 1
                if self.slots[env_id].ended:
                    break
        terminated = success.any(1)
        ended = np.array([self.slots[i].ended for i in env_ids])
        return ChunkStep(self._observe(env_ids), reward, success, terminated, ended & ~terminated, executed, np.zeros(len(executed), bool))

    def snapshot(self, env_ids: Sequence[int]) -> list[Any]:
        return [self.slots[i] for i in env_ids]

    def restore(self, env_ids: Sequence[int], snapshots: Sequence[Any]) -> Observation:
        for env_id, snapshot in zip(env_ids, snapshots, strict=True):
            self.slots[env_id] = snapshot
        return self._observe(env_ids)

    def expert_chunk(self, env_ids: Sequence[int], length: int) -> np.ndarray:
        return np.full((len(env_ids), length, 1), 0.5, np.float32)

    def privileged(self, env_ids: Sequence[int]) -> np.ndarray:
        return np.array([[self.slots[i].goal] for i in env_ids], np.float32)

    def close(self) -> None:
        pass

    def _observe(self, env_ids: Sequence[int]) -> Observation:
        return {
            "observation.images.front": np.zeros((len(env_ids), 16, 16, 3), np.uint8),
            "observation.state": np.array([[self.slots[i].count] for i in env_ids], np.float32),
            "task": np.array([f"please {self.slots[i].task}" for i in env_ids]),
        }


def counting_policy(seed: int = 0) -> VlaPolicy:
    """A tiny random policy for `CountingEnv`."""
    torch.manual_seed(seed)
    return VlaPolicy(PolicyConfig(head=TokenHeadConfig(bins=5), chunk=4, executed=3), SPEC)
