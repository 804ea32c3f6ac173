"""Collecting demonstrations of the scripted experts as a LeRobotDataset v3 folder.

Simulation workers run whole episodes of a batch side by side while this process encodes and writes the ones
that are finished. Which episodes are kept depends on the config alone, not on timing or worker counts.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field, model_validator
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from policies.interface import ChunkPolicy
from sim.vec_env import SEED_RANGES, Demonstration, SimulationError, VecEnv, seat
from vla_rl.config import Fraction, Positive, SimConfig, Strict, require_own_starts
from vla_rl.presets import validate

ATTEMPTS = 4
"""Give up on a task whose expert needs more than so many attempts per kept episode."""


class CollectConfig(Strict):
    """Demonstrations to collect."""

    out: Path = Path("demos")
    """Dataset folder to create."""
    sim: SimConfig = SimConfig()
    """Simulator, tasks and observation."""
    episodes: Positive = 80
    """Episodes per task."""
    policy: Path | None = None
    """Policy folder whose greedy rollouts are written; the scripted experts' if unset."""
    noise_fraction: Fraction = 0.5
    """Share of episodes whose executed actions are disturbed; the written actions are the expert's own."""
    noise_std: Annotated[float, Field(ge=0)] = 0.3
    """Standard deviation of that Gaussian noise, in action units."""
    keep_failures: bool = False
    """Keep episodes in which the expert fails; otherwise they are replaced."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Selects the initial states among the training seeds."""

    @model_validator(mode="after")
    def _policies_act_undisturbed(self) -> CollectConfig:
        if self.policy and self.noise_fraction:
            raise ValueError(f"rollouts of a policy are not disturbed: set noise_fraction to 0, got {self.noise_fraction}")
        return self

    @model_validator(mode="after")
    def _own_starts(self) -> CollectConfig:
        require_own_starts(self.sim)
        return self


def collect(config: CollectConfig, env: VecEnv, policy: ChunkPolicy | None = None) -> Path:
    """Collect `config.episodes` demonstrations per task and print the success rate of the experts, or of `policy`.

    A complete folder `config.out` that was collected with the same settings is kept as it is.

    Returns:
        The dataset folder.

    Raises:
        FileExistsError: `config.out` exists with other content.
        OSError: not enough disk space.
        SimulationError: the simulator failed, or an expert fails too often.
    """
    from vla_rl.data.writer import write_episodes

    about: dict[str, Any] = {"collect": _content(config)}
    if config.out.exists():
        _require_same(config.out, about["collect"])
        print(f"{config.out} is complete and was collected with the same settings: reused")
        return config.out
    attempts, successes = Counter[str](), Counter[str]()
    total = config.episodes * len(config.sim.tasks)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        bar = progress.add_task("Collecting episodes", total=total)

        def kept() -> Iterator[Demonstration]:
            for episode in demonstrations(config, env, policy):
                attempts[episode.task] += 1
                successes[episode.task] += episode.succeeded
                if episode.succeeded or config.keep_failures:
                    yield episode
                    progress.advance(bar)
            about["success"] = {task: {"successes": successes[task], "attempts": attempts[task]} for task in config.sim.tasks}

        write_episodes(config.out, env.spec, kept(), about, total * env.horizon)
    for task in config.sim.tasks:
        print(f"{task}: succeeded in {successes[task]} of {attempts[task]} episodes, {config.episodes} kept")
    return config.out


def demonstrations(config: CollectConfig, env: VecEnv, policy: ChunkPolicy | None = None) -> Iterator[Demonstration]:
    """Run experts, or `policy`, until `config.episodes` per task are to be kept; yields every episode, failed ones too."""
    from vla_rl.data.play import play

    limit = ATTEMPTS * config.episodes
    seeds = np.random.default_rng(config.seed).choice(SEED_RANGES["train"], (len(config.sim.tasks), limit), replace=False).tolist()
    queue = deque((task, attempt) for attempt in range(config.episodes) for task in range(len(config.sim.tasks)))
    attempts = [config.episodes] * len(config.sim.tasks)
    while queue:
        seats = seat(env, [config.sim.tasks[task] for task, _ in queue])
        batch = [item for item, env_id in zip(queue, seats, strict=True) if env_id is not None]
        queue = deque(item for item, env_id in zip(queue, seats, strict=True) if env_id is None)
        ids = [env_id for env_id in seats if env_id is not None]
        names, starts = [config.sim.tasks[task] for task, _ in batch], [seeds[task][attempt] for task, attempt in batch]
        noise = [config.noise_std * _is_noisy(attempt, config) for _, attempt in batch]
        episodes = _demonstrate(env, ids, starts, names, noise) if policy is None else play(policy, env, ids, starts, names)
        for (task, _), episode in zip(batch, episodes, strict=True):
            yield episode
            if episode.succeeded or config.keep_failures:
                continue
            if attempts[task] == limit:
                raise SimulationError(
                    f"task '{config.sim.tasks[task]}' failed in more than {limit - config.episodes} of {limit} episodes;"
                    " lengthen sim.horizon, lower noise_std or set keep_failures"
                )
            queue.append((task, attempts[task]))
            attempts[task] += 1


def _demonstrate(env: VecEnv, ids: list[int], seeds: list[int], tasks: list[str], noise_std: list[float]) -> Iterator[Demonstration]:
    """Episodes of the scripted experts; all start at once."""
    env.reset(ids, seeds, tasks)
    return (item.result() for item in env.submit_demonstrations(ids, noise_std))


def _is_noisy(attempt: int, config: CollectConfig) -> bool:
    """Spreads noisy episodes evenly: with a fraction of 0.5, every second one."""
    return int((attempt + 1) * config.noise_fraction) > int(attempt * config.noise_fraction)


def _content(config: CollectConfig) -> dict[str, Any]:
    """The settings that decide which episodes a data set holds."""
    return config.model_dump(mode="json", exclude={"out": True, "sim": {"num_envs", "workers"}})


def _require_same(out: Path, wanted: dict[str, Any]) -> None:
    """Raise `FileExistsError` unless `out` is a complete data set collected with the settings `wanted`."""
    from vla_rl.data.reader import open_folder
    from vla_rl.data.writer import ABOUT_FILE

    if not (out / ABOUT_FILE).is_file():
        raise FileExistsError(f"{out} already exists and was not written by `vla-rl collect`; choose another folder")
    stored = json.loads((out / ABOUT_FILE).read_text()).get("collect", {})
    found = _content(validate(CollectConfig, stored, str(out / ABOUT_FILE)))  # with defaults for settings that are newer than the folder
    if found != wanted:
        keys = sorted(key for key in {*found, *wanted} if found.get(key) != wanted.get(key))
        differing = "; ".join(f"{key} was {found.get(key)}, now {wanted.get(key)}" for key in keys)
        raise FileExistsError(f"{out} already exists with other settings ({differing}); choose another folder or delete it")
    open_folder(out)
