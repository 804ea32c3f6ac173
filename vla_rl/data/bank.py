"""A bank of states that scripted experts pass through, for training episodes to start from (`sim.resets`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field, model_validator

from sim import HUMANOID
from sim.resets import Bank, State
from sim.vec_env import SEED_RANGES, SimulationError, VecEnv
from vla_rl.config import Positive, SimConfig, Strict, require_own_starts
from vla_rl.loops import bank_identity, bar

ATTEMPTS = 4
"""Give up on a task whose expert needs more than so many attempts per kept episode."""


class BankConfig(Strict):
    """A bank of states to collect: experts that are disturbed, from random places, each episode up to its success."""

    out: Path = Path("bank")
    """Folder to create."""
    sim: SimConfig = SimConfig(backend="mujoco", tasks=("lift",))
    """Simulator and tasks."""
    episodes: Positive = 50
    """Episodes per task; those that fail are replaced, so that every state is known to be solvable."""
    every: Positive = 4
    """Control steps between states that are kept."""
    wander: Annotated[int, Field(ge=0)] = 10
    """Most control steps of random actions before the expert takes over; each episode draws how many."""
    noise_std: Annotated[float, Field(ge=0)] = 0.1
    """Standard deviation of Gaussian noise on the expert's actions, in action units."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Selects the initial states among the training seeds, and draws the disturbances."""

    @model_validator(mode="after")
    def _own_starts(self) -> BankConfig:
        require_own_starts(self.sim)
        return self


@dataclass
class _Track:
    """An episode under way."""

    task: str
    seed: int
    wander: int
    rng: np.random.Generator
    found: list[tuple[int, dict[str, np.ndarray]]] = field(default_factory=list)
    """(control step, arrays) of the states kept so far."""


def collect_bank(config: BankConfig, env: VecEnv) -> Path:
    """Collect a bank and print how often the experts succeeded. Returns the folder.

    Raises:
        FileExistsError: `config.out` exists.
        SimulationError: an expert fails too often, or the simulator has no banks.
    """
    if config.out.exists():
        raise FileExistsError(f"{config.out} already exists; choose another folder or delete it")
    if config.sim.robot == HUMANOID:
        raise SimulationError(f"robot '{HUMANOID}' has no banks of states; it starts from its own initial states")
    if config.sim.backend != "mujoco":
        raise SimulationError(f"backend '{config.sim.backend}' has no banks of states; set sim.backend to mujoco")
    states: list[State] = []
    attempts, kept = Counter[str](), Counter[str]()
    with bar() as progress:
        shown = progress.add_task("collecting states", total=config.episodes * len(config.sim.tasks))
        for track, steps in _episodes(config, env, kept):
            attempts[track.task] += 1
            if steps is None or kept[track.task] == config.episodes:
                continue
            episode = kept.total()
            kept[track.task] += 1
            states += [State(track.task, track.seed, episode, step / steps, arrays) for step, arrays in track.found]
            progress.advance(shown)
    about: dict[str, Any] = bank_identity(config.sim) | {"collect": config.model_dump(mode="json", exclude={"out"})}
    Bank(about, tuple(states)).save(config.out)
    for task in config.sim.tasks:
        count = sum(state.task == task for state in states)
        print(f"{task}: {count} states of {kept[task]} episodes, {attempts[task]} attempted")
    return config.out


def _episodes(config: BankConfig, env: VecEnv, kept: Counter[str]) -> Iterator[tuple[_Track, int | None]]:
    """Episodes until enough are kept of every task, with the control steps up to their success, `None` if they failed."""
    limit = ATTEMPTS * config.episodes
    for number, task in enumerate(config.sim.tasks):
        rng = np.random.default_rng([config.seed, number])
        seeds = rng.choice(SEED_RANGES["train"], limit, replace=False).tolist()
        while kept[task] < config.episodes:
            batch, seeds = seeds[: env.num_envs], seeds[env.num_envs :]
            if not batch:
                raise SimulationError(
                    f"the expert of task '{task}' solved {kept[task]} of {limit} episodes, {config.episodes} are wanted;"
                    " lower noise_std or wander, or lengthen sim.horizon"
                )
            yield from _run(config, env, task, batch)


def _run(config: BankConfig, env: VecEnv, task: str, seeds: list[int]) -> list[tuple[_Track, int | None]]:
    """One episode per seed side by side, in environments 0, 1, ..."""
    tracks = []
    for seed in seeds:
        rng = np.random.default_rng([config.seed, seed])
        tracks.append(_Track(task, seed, int(rng.integers(config.wander + 1)), rng))
    ends: list[int | None] = [None] * len(seeds)
    active, step = list(range(len(seeds))), 0
    env.reset(active, seeds, [task] * len(seeds))
    while active:
        if step % config.every == 0:
            for i, snapshot in zip(active, env.snapshot(active), strict=True):
                tracks[i].found.append((step, snapshot.arrays))
        experts = env.expert_chunk(active, 1)[:, 0]
        actions = [_disturbed(tracks[i], expert, step, config.noise_std) for i, expert in zip(active, experts, strict=True)]
        result = env.step_chunk(np.stack(actions)[:, None], active, "none")
        step += 1
        for row, i in enumerate(active):
            ends[i] = step if result.terminated[row] else None
        active = [i for row, i in enumerate(active) if not result.done[row]]
    return list(zip(tracks, ends, strict=True))


def _disturbed(track: _Track, expert: np.ndarray, step: int, noise_std: float) -> np.ndarray:
    """A random action `(A,)` while the episode wanders, then the expert's with noise."""
    if step < track.wander:
        return track.rng.uniform(-1, 1, len(expert)).astype(np.float32)
    return (expert + track.rng.normal(0.0, noise_std, len(expert))).clip(-1, 1).astype(np.float32)
