"""What every simulator behind `sim.vec_env.VecEnv` promises, tried on any of them. Equal means to the last bit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from policies.interface import Observation, PolicySpec
from sim.vec_env import ChunkStep, SimulationError
from sim.workers.vec_env import WorkerVecEnv

STATE = "observation.state"


def noise(seed: int, n: int, length: int, actions: int = 5) -> np.ndarray:
    """Random actions `(n, length, actions)`."""
    return np.random.default_rng(seed).uniform(-1, 1, (n, length, actions)).astype(np.float32)


def assert_same(a: Observation, b: Observation) -> None:
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def assert_same_step(a: ChunkStep, b: ChunkStep) -> None:
    assert_same(a.obs, b.obs)
    for name in ("reward", "success", "terminated", "truncated", "executed"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


def images(env: WorkerVecEnv) -> list[str]:
    """Names of the entries that are images."""
    return [entry.name for entry in env.spec.entries if entry.kind == "image"]


def check_observations(env: WorkerVecEnv, ids: Sequence[int], seeds: Sequence[int], tasks: Sequence[str]) -> Observation:
    """What is shown, and the shape of what steps return, are as the specification says. Returns how the episodes start."""
    spec, n = PolicySpec(**vars(env.spec), chunk=8, executed=8), len(ids)
    obs = env.reset(ids, seeds, tasks)
    step = env.step_chunk(noise(0, n, 6, env.spec.action.dim), ids)
    [state] = [entry for entry in spec.entries if entry.kind == "state"]
    for shown in (obs, step.obs):
        spec.check(shown)
        assert ((np.array(state.low) <= shown[STATE]) & (shown[STATE] <= np.array(state.high))).all()
        assert all(shown[name].std() > 20 for name in images(env))
    shapes = [getattr(step, name).shape for name in ("reward", "success", "terminated", "truncated", "executed")]
    assert shapes == [(n, 6), (n, 6), (n,), (n,), (n,)]
    assert (step.reward.dtype, step.success.dtype, step.executed.dtype) == (np.float32, bool, np.int64)
    assert not step.done.any() and (step.executed == 6).all()
    return obs


def check_starts(env: WorkerVecEnv, ids: Sequence[int], elsewhere: Sequence[int], tasks: Sequence[str]) -> None:
    """How an episode starts depends on task and seed alone: not on the environment, its worker, or what ran there before."""
    first = env.reset(ids, [17] * len(ids), tasks)
    env.step_chunk(noise(1, len(ids), 8, env.spec.action.dim), ids, render="none")
    other = env.reset(ids, [18] * len(ids), tasks)
    assert_same(first, env.reset(elsewhere, [17] * len(ids), tasks))
    for name in images(env) or [STATE]:
        assert (first[name] != other[name]).reshape(len(ids), -1).any(1).all()


def check_restore(
    env: WorkerVecEnv, ids: Sequence[int], elsewhere: Sequence[int], tasks: Sequence[str], meanwhile: Sequence[str] | None = None
) -> None:
    """A restored state shows what was shown, and goes on as the episode did: in other environments, in which tasks `meanwhile` (the same
    if `None`) ran, and in other chunks."""
    n = len(ids)
    env.reset(ids, range(n), tasks)
    start = env.step_chunk(env.expert_chunk(ids, 12), ids)
    before, known, actions = env.snapshot(ids), env.privileged(ids), noise(2, n, 12, env.spec.action.dim)
    end, told = env.step_chunk(actions, ids), env.privileged(ids)
    env.reset(elsewhere, [9] * n, meanwhile or tasks)
    env.step_chunk(actions[:, :2], elsewhere, render="none")
    assert_same(env.restore(elsewhere, before), start.obs)
    np.testing.assert_array_equal(env.privileged(elsewhere), known)
    parts = env.step_chunk(actions[:, :5], elsewhere, render="none"), env.step_chunk(actions[:, 5:], elsewhere)
    assert_same(parts[1].obs, end.obs)
    for name in ("reward", "success"):
        np.testing.assert_array_equal(np.concatenate([getattr(part, name) for part in parts], 1), getattr(end, name), err_msg=name)
    np.testing.assert_array_equal(env.privileged(elsewhere), told)


def check_neighbours(env: WorkerVecEnv, ids: Sequence[int], tasks: Sequence[str]) -> None:
    """An episode does not depend on what others do, nor on whether they step with it, before it or after it."""
    n, half = len(ids), len(ids) // 2
    actions = noise(3, n, 16, env.spec.action.dim)
    env.reset(ids, range(n), tasks)
    together = env.step_chunk(actions, ids)
    env.reset(ids, range(n), tasks)
    pending = [env.submit_chunk(actions[part], ids[part]) for part in (slice(half), slice(half, None))]
    late, early = pending[1].result(), pending[0].result()
    assert_same({name: np.concatenate([early.obs[name], late.obs[name]]) for name in early.obs}, together.obs)
    np.testing.assert_array_equal(np.concatenate([early.reward, late.reward]), together.reward)


def check_expert_chunk(env: WorkerVecEnv, ids: Sequence[int], tasks: Sequence[str]) -> None:
    """Asking the expert changes nothing, and what it says it would do is what it does."""
    env.reset(ids, [3] * len(ids), tasks)
    before = env.privileged(ids)
    chunk = env.expert_chunk(ids, 8)
    assert chunk.shape == (len(ids), 8, env.spec.action.dim) and chunk.dtype == np.float32 and np.abs(chunk).max() <= 1
    np.testing.assert_array_equal(env.privileged(ids), before)
    singles = []
    for _ in range(8):
        singles.append(env.expert_chunk(ids, 1))
        env.step_chunk(singles[-1], ids, render="none")
    np.testing.assert_array_equal(np.concatenate(singles, axis=1), chunk)


def check_success(env: WorkerVecEnv, ids: Sequence[int], task: str, steps: int) -> int:
    """Success ends an episode inside the chunk, and the horizon of `steps` another. Returns after how many steps it succeeded."""
    env.reset(ids, [0, 0], [task] * 2)
    chunk = env.expert_chunk(ids[:1], steps)
    still = np.zeros_like(chunk)
    step = env.step_chunk(np.concatenate([chunk, still]), ids, render="all")
    end = int(step.executed[0])
    assert step.terminated.tolist() == [True, False] and step.truncated.tolist() == [False, True]
    assert step.executed.tolist() == [end, steps]
    assert step.success[0].tolist() == [k == end - 1 for k in range(steps)] and not step.success[1].any()
    assert (step.reward[0, :end] > 0).all() and (step.reward[0, end:] == 0).all()
    assert len(step.frames) == steps
    for name in (*images(env), STATE):
        np.testing.assert_array_equal(step.frames[-1][name], step.obs[name])
        np.testing.assert_array_equal(step.frames[end - 1][name][0], step.frames[-1][name][0])
        assert (step.frames[end - 2][name][0] != step.frames[5][name][0]).any()
    with pytest.raises(SimulationError, match=rf"environment {ids[0]} .{task}, seed 0. has ended: reset it"):
        env.step_chunk(still, ids[:1])
    return end


def check_time_limit(env: WorkerVecEnv, env_id: int, task: str, horizon: int) -> None:
    """The horizon ends an episode inside the chunk; what is not drawn is black."""
    env.reset([env_id], [0], [task])
    env.step_chunk(np.zeros((1, horizon - 4, env.spec.action.dim)), [env_id], render="none")
    step = env.step_chunk(np.zeros((1, 8, env.spec.action.dim)), [env_id], render="none")
    assert step.executed.tolist() == [4] and step.truncated.all() and not step.terminated.any()
    assert (step.reward[0, 4:] == 0).all() and all((step.obs[name] == 0).all() for name in images(env))
