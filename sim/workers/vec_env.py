"""A `VecEnv` whose environments live in worker processes; this side only talks to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from typing import Any

import numpy as np

from policies.interface import Observation
from sim.resets import State, require_training_seeds
from sim.vec_env import PICTURE, ChunkStep, Demonstration, EnvSpec, Render, SimulationError
from sim.workers.process import WorkerProcess

Arrays = dict[str, np.ndarray]


def check_name(kind: str, given: str, allowed: Sequence[str]) -> None:
    """Raise `SimulationError` naming close matches unless `given` is allowed."""
    if given not in allowed:
        close = get_close_matches(given, allowed, n=3)
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        raise SimulationError(f"unknown {kind} '{given}'; {hint}allowed: {', '.join(allowed)}")


def require_positive(**numbers: int) -> None:
    """Raise `SimulationError` for a number below 1."""
    for name, value in numbers.items():
        if value < 1:
            raise SimulationError(f"{name} must be at least 1, got {value}")


@dataclass(frozen=True)
class Pending[T]:
    """A call under way in the workers."""

    _wait: Callable[[], T]

    def result(self) -> T:
        """Wait for the outcome. Raises `SimulationError` if a worker failed."""
        return self._wait()


@dataclass(frozen=True)
class Slot:
    """One environment of `sim.workers.episodes`: the whole state of its episode. Also what `snapshot` returns."""

    task: str
    seed: int
    instruction: str
    steps: int
    ended: bool
    state: np.ndarray
    """The state entry that policies see."""
    scene: Any
    """What the scene's `save` returned."""


class WorkerVecEnv:
    """N environments, spread over workers.

    An environment has at most one chunk under way. Episodes end at the first success, at the horizon or
    with a fall, and are never reset by themselves.
    """

    test_states: int | None = None
    """As `VecEnv`."""

    def __init__(
        self,
        spec: EnvSpec,
        tasks: Sequence[str],
        num_envs: int,
        workers: Sequence[WorkerProcess],
        names: dict[str, str],
        snapshot_type: type,
        horizon: int,
        homes: Sequence[int] | None = None,
        hosted: Sequence[tuple[str, ...]] | None = None,
    ) -> None:
        """Talk to workers that were started.

        Args:
            spec: what the environments offer.
            tasks: names of the tasks that resets may ask for.
            num_envs: N.
            workers: processes that answer the methods of `sim.vec_env.VecEnv`.
            names: observation entry of each array that workers return.
            snapshot_type: what snapshots are made of.
            horizon: control steps of the longest episode.
            homes: worker of each environment; i modulo the number of workers for environment i by default.
            hosted: tasks that each worker can run, where its environments step together; by default each runs all, one by one.
        """
        self.spec, self.tasks, self.num_envs, self.horizon = spec, tuple(tasks), num_envs, horizon
        self._homes = [env % len(workers) for env in range(num_envs)] if homes is None else list(homes)
        self._hosted = hosted
        self._workers, self._names, self._snapshot_type = list(workers), names, snapshot_type

    @property
    def lockstep(self) -> tuple[tuple[int, ...], ...]:
        """As `VecEnv`."""
        if self._hosted is None:
            return ()
        return tuple(tuple(env for env, home in enumerate(self._homes) if home == w) for w in range(len(self._workers)))

    def hosts(self, env_id: int) -> tuple[str, ...]:
        """As `VecEnv`."""
        return self.tasks if self._hosted is None else self._hosted[self._homes[env_id]]

    def reset(
        self, env_ids: Sequence[int], seeds: Sequence[int], tasks: Sequence[str], starts: Sequence[State | None] | None = None
    ) -> Observation:
        """`submit_reset(...).result()`."""
        return self.submit_reset(env_ids, seeds, tasks, starts).result()

    def submit_reset(
        self, env_ids: Sequence[int], seeds: Sequence[int], tasks: Sequence[str], starts: Sequence[State | None] | None = None
    ) -> Pending[Observation]:
        """As `VecEnv`. The result is `(n, ...)`."""
        for task in tasks:
            check_name("task", task, self.tasks)
        if not len(env_ids) == len(seeds) == len(tasks):
            raise SimulationError(f"reset needs one seed and one task per environment, got {len(env_ids)}, {len(seeds)}, {len(tasks)}")
        if starts is not None and len(starts) != len(env_ids):
            raise SimulationError(f"reset needs one start or None per environment, got {len(starts)} for {len(env_ids)}")
        self._check_ids(env_ids)
        for env, task in zip(env_ids, tasks, strict=True):
            if task not in self.hosts(env):
                raise SimulationError(f"environment {env} holds a scene for {', '.join(self.hosts(env))}; it cannot run '{task}'")
        if min(seeds, default=0) < 0:
            raise SimulationError(f"seeds must not be negative, got {min(seeds)}")
        chosen = [] if starts is None or not any(starts) else [list(starts)]
        if chosen:
            require_training_seeds(seeds, chosen[0])
        wait = self._submit("reset", env_ids, [int(seed) for seed in seeds], list(tasks), *chosen)
        return Pending(lambda: self._observation(wait()))

    def submit_chunk(self, actions: np.ndarray, env_ids: Sequence[int], render: Render = "last") -> Pending[ChunkStep]:
        """Start executing `actions` `(n, K, A)`; different environments may have chunks under way at once.

        Actions are clipped to the action range. An environment whose episode has ended must be reset first.
        """
        actions = np.asarray(actions, np.float32)
        if actions.ndim != 3 or actions.shape[0] != len(env_ids) or actions.shape[1] < 1 or actions.shape[2] != self.spec.action.dim:
            raise SimulationError(f"actions must have shape (n={len(env_ids)}, K>=1, A={self.spec.action.dim}), got {actions.shape}")
        if not np.isfinite(actions).all():
            bad = [env for env, chunk in zip(env_ids, actions, strict=True) if not np.isfinite(chunk).all()]
            raise SimulationError(f"actions for environments {bad} hold NaN or infinite values")
        check_name("render mode", render, ("last", "all", "none"))
        wait = self._submit(
            "chunk", env_ids, np.clip(actions, self.spec.action.low, self.spec.action.high).astype(np.float32), constants=(render,)
        )
        return Pending(lambda: self._chunk_step(wait()))

    def step_chunk(self, actions: np.ndarray, env_ids: Sequence[int], render: Render = "last") -> ChunkStep:
        """`submit_chunk(...).result()`."""
        return self.submit_chunk(actions, env_ids, render).result()

    def snapshot(self, env_ids: Sequence[int]) -> list[Any]:
        """Full simulator state of each environment, to be passed to `restore` of the same or another environment id."""
        return self._call("snapshot", env_ids)["slot"].tolist()

    def restore(self, env_ids: Sequence[int], snapshots: Sequence[Any]) -> Observation:
        """Put environments back into snapshots; stepping on is then bit-identical. Returns the observation."""
        if len(snapshots) != len(env_ids):
            raise SimulationError(f"restore needs one snapshot per environment, got {len(snapshots)} for {len(env_ids)}")
        for given in snapshots:
            if not isinstance(given, self._snapshot_type):
                raise SimulationError(f"restore takes what snapshot returned, got {type(given).__name__}")
        return self._observation(self._call("restore", env_ids, list(snapshots)))

    def expert_chunk(self, env_ids: Sequence[int], length: int) -> np.ndarray:
        """The scripted expert rolled `length` steps from each state and restored: `(n, length, A)` float32, clipped.

        If the expert solves the task early, its last action is repeated.
        """
        return self._call("expert", env_ids, constants=(length,))["action"]

    def privileged(self, env_ids: Sequence[int]) -> np.ndarray:
        """`(n, S)` float32 full simulator observation, for teachers, critics and resets only."""
        return self._call("privileged", env_ids)["obs"]

    def submit_demonstrations(
        self, env_ids: Sequence[int], noise_std: float | Sequence[float], render: bool = True
    ) -> list[Pending[Demonstration]]:
        """Start the scripted expert in each environment, from its present state to the end of its episode.

        Args:
            env_ids: environments that were just reset. They have ended afterwards.
            noise_std: standard deviation of Gaussian noise on executed actions, drawn from the seed; 0 for none. One for
                all or one per environment.
            render: keep an image per control step.

        Returns:
            One pending demonstration per environment; the workers run through them side by side.
        """
        stds = [noise_std] * len(env_ids) if isinstance(noise_std, int | float) else list(noise_std)
        if not all(std >= 0 for std in stds):
            raise SimulationError(f"noise_std must be at least 0, got {noise_std}")
        if self._hosted is None:
            waits = [self._submit("demonstrate", [env], [std], constants=(render,)) for env, std in zip(env_ids, stds, strict=True)]
            return [Pending(lambda wait=wait: wait()["demonstration"][0]) for wait in waits]
        together = cache(self._submit("demonstrate", env_ids, stds, constants=(render,)))
        return [Pending(lambda row=row: together()["demonstration"][row]) for row in range(len(env_ids))]

    def demonstrate(self, env_ids: Sequence[int], noise_std: float | Sequence[float], render: bool = True) -> list[Demonstration]:
        """`submit_demonstrations(...)` and wait for all."""
        return [pending.result() for pending in self.submit_demonstrations(env_ids, noise_std, render)]

    def close(self) -> None:
        """Stop workers and free rendering contexts. Safe to call twice."""
        for worker in self._workers:
            worker.close()

    def __enter__(self) -> WorkerVecEnv:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, method: str, env_ids: Sequence[int], *per_env: np.ndarray | list[Any], constants: tuple[Any, ...] = ()) -> Arrays:
        return self._submit(method, env_ids, *per_env, constants=constants)()

    def _submit(
        self, method: str, env_ids: Sequence[int], *per_env: np.ndarray | list[Any], constants: tuple[Any, ...] = ()
    ) -> Callable[[], Arrays]:
        """Send a request to every worker concerned; the returned function waits and puts rows in the order of `env_ids`.

        Args:
            method: method of `Worker`.
            env_ids: n environments.
            per_env: arguments with one item per environment.
            constants: arguments that are the same for all.
        """
        self._check_ids(env_ids)
        rows_of = {w: [row for row, env in enumerate(env_ids) if self._homes[env] == w] for w in range(len(self._workers))}
        futures = []
        for w, rows in rows_of.items():
            if rows:
                ids = [int(env_ids[row]) for row in rows]
                futures.append(self._workers[w].request(method, ids, *(_take(items, rows) for items in per_env), *constants))
        order = np.argsort([row for rows in rows_of.values() for row in rows])

        def wait() -> Arrays:
            parts = [future.result() for future in futures]
            return {key: np.concatenate([part[key] for part in parts])[order] for key in parts[0]}

        return wait

    def _check_ids(self, env_ids: Sequence[int]) -> None:
        if len(env_ids) == 0 or len(set(env_ids)) < len(env_ids) or not all(0 <= env < self.num_envs for env in env_ids):
            raise SimulationError(f"env_ids must be distinct and within 0..{self.num_envs - 1}, at least one, got {list(env_ids)}")

    def _observation(self, arrays: Arrays) -> Observation:
        """What workers show; images that they did not draw are black."""
        shapes = {entry.name: (len(arrays["task"]), *entry.shape) for entry in self.spec.entries}
        return {name: arrays[key] if key in arrays else np.zeros(shapes[name], np.uint8) for key, name in self._names.items()}

    def _chunk_step(self, arrays: Arrays) -> ChunkStep:
        names = {f"frames.{key}": name for key, name in (self._names | {PICTURE: PICTURE}).items()}
        every = {names[key]: value for key, value in arrays.items() if key in names}
        longest = int(arrays["executed"].max()) if every else 0
        return ChunkStep(
            obs=self._observation(arrays),
            reward=arrays["reward"],
            success=arrays["success"],
            terminated=arrays["terminated"],
            truncated=arrays["truncated"],
            executed=arrays["executed"],
            diverged=arrays.get("diverged", np.zeros(len(arrays["executed"]), bool)),
            frames=tuple({name: value[:, k] for name, value in every.items()} for k in range(longest)),
        )


def _take(items: np.ndarray | list[Any], rows: list[int]) -> np.ndarray | list[Any]:
    return items[rows] if isinstance(items, np.ndarray) else [items[row] for row in rows]
