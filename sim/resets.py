"""Where training episodes start: the task's own distribution, a bank of diverse states, or somewhere along a demonstration.

A bank is a folder that holds states which experts passed through, without pickle:

    bank.json           what they were collected with; task, seed, episode and share of the way of each
    bank.safetensors    the backend's own arrays of each state

Evaluation always starts from the task's own distribution: environments refuse states under any but training seeds.

S states
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from safetensors.numpy import load_file, save_file

from sim.vec_env import SEED_RANGES, SimulationError

Fraction = Annotated[float, Field(ge=0, le=1)]
RECORD, ARRAYS = "bank.json", "bank.safetensors"


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class DefaultResets(_Settings):
    """The task's own initial states."""

    name: Literal["default"] = "default"


class BankResets(_Settings):
    """Diverse states of a bank, which removes the exploration problem (OmniReset, arXiv 2603.15789)."""

    name: Literal["bank"] = "bank"
    path: Path = Path("bank")
    """Folder made by `vla-rl collect --bank`."""
    fraction: Fraction = 0.75
    """Share of the initial states that come from it; OmniReset's own start is one of four banks alike."""


class PrefixResets(_Settings):
    """States along demonstrations, the further back the longer training runs (in the spirit of POPE, arXiv 2601.18779)."""

    name: Literal["prefix"] = "prefix"
    path: Path = Path("bank")
    """Folder made by `vla-rl collect --bank`."""
    fraction: Fraction = 0.5
    """Share of the initial states that come from it."""
    way: tuple[Fraction, Fraction] = (0.75, 0.0)
    """Share of the demonstration that lies behind the start, in the first update and in the last, linear in between."""

    def way_at(self, progress: float) -> float:
        """The share at `progress` from 0 to 1 of training."""
        return self.way[0] + (self.way[1] - self.way[0]) * progress


Resets = Annotated[DefaultResets | BankResets | PrefixResets, Field(discriminator="name")]


@dataclass(frozen=True, eq=False)
class State:
    """A state to start from."""

    task: str
    seed: int
    """Of the episode in which it occurred: its goal and words are this seed's."""
    episode: int
    """Which of the bank's episodes that was."""
    share: float
    """How far along the episode, from 0 (start) to 1 (success)."""
    arrays: Mapping[str, np.ndarray]
    """The backend's own."""


class Snapshot(Protocol):
    """What backends with banks return from `VecEnv.snapshot`."""

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What a new episode needs to start from here."""
        ...


@dataclass(frozen=True)
class Bank:
    """States of several tasks, of one backend and robot."""

    about: Mapping[str, Any]
    """What it was collected with: `backend`, `robot`, `control` and more."""
    states: tuple[State, ...]

    def save(self, folder: Path) -> None:
        """Write a new folder."""
        rows = [{"task": s.task, "seed": s.seed, "episode": s.episode, "share": s.share} for s in self.states]
        arrays = {f"{i}.{name}": np.array(value, order="C") for i, state in enumerate(self.states) for name, value in state.arrays.items()}
        folder.mkdir(parents=True)
        save_file(arrays, folder / ARRAYS)
        (folder / RECORD).write_text(json.dumps({"about": dict(self.about), "states": rows}, indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Bank:
        """Read what `save` wrote. Raises `SimulationError` for a folder that is none, or that holds evaluation seeds."""
        for name in (RECORD, ARRAYS):
            if not (folder / name).is_file():
                raise SimulationError(f"{folder} is no bank of states: it has no {name}; make one by `vla-rl collect PRESET --bank`")
        record = json.loads((folder / RECORD).read_text())
        arrays: list[dict[str, np.ndarray]] = [{} for _ in record["states"]]
        for key, value in load_file(folder / ARRAYS).items():
            index, name = key.split(".", 1)
            arrays[int(index)][name] = value
        states = tuple(State(**row, arrays=found) for row, found in zip(record["states"], arrays, strict=True))
        foreign = sorted({state.seed for state in states if state.seed not in SEED_RANGES["train"]})
        if foreign:
            raise SimulationError(f"{folder} holds states of seeds {foreign[:5]}, which are not training seeds: they are for evaluation")
        return cls(record["about"], states)

    def require(self, about: Mapping[str, str], tasks: Sequence[str]) -> None:
        """Raise `SimulationError` unless it was collected with the same `about` and has states of every task."""
        for key, wanted in about.items():
            if self.about.get(key) != wanted:
                raise SimulationError(f"the bank of states was collected with {key} '{self.about.get(key)}', this run has '{wanted}'")
        missing = sorted(set(tasks) - {state.task for state in self.states})
        if missing:
            raise SimulationError(f"the bank of states has none of task {', '.join(missing)}; collect it with all tasks of the run")


class Starts:
    """Draws where training episodes start."""

    def __init__(self, resets: DefaultResets | BankResets | PrefixResets, about: Mapping[str, str], tasks: Sequence[str]) -> None:
        """Open the bank, if there is one.

        Args:
            resets: the configuration.
            about: backend, robot and control of the run; the bank's must be the same.
            tasks: tasks of the run.

        Raises:
            SimulationError: the bank cannot be read or does not fit.
        """
        self._resets, self._episodes = resets, dict[str, list[list[State]]]()
        if isinstance(resets, DefaultResets):
            return
        bank = Bank.load(resets.path)
        bank.require(about, tasks)
        for task in tasks:
            episodes: dict[int, list[State]] = {}
            for state in bank.states:
                if state.task == task:
                    episodes.setdefault(state.episode, []).append(state)
            self._episodes[task] = [sorted(episode, key=lambda state: state.share) for episode in episodes.values()]

    def draw(self, task: str, rng: np.random.Generator, progress: float) -> State | None:
        """A state of `task`, or `None` for its own distribution; `progress` from 0 to 1 of training."""
        resets = self._resets
        if isinstance(resets, DefaultResets) or rng.random() >= resets.fraction:
            return None
        episodes = self._episodes[task]
        if isinstance(resets, BankResets):
            states = [state for episode in episodes for state in episode]
            return states[rng.integers(len(states))]
        episode, way = episodes[rng.integers(len(episodes))], resets.way_at(progress)
        return max((state for state in episode if state.share <= way), key=lambda state: state.share, default=None)


def require_training_seeds(seeds: Sequence[int], starts: Sequence[State | None]) -> None:
    """Raise `SimulationError` for a start other than the task's own under a seed that is not for training."""
    for seed, start in zip(seeds, starts, strict=True):
        if start is not None and seed not in SEED_RANGES["train"]:
            raise SimulationError(
                f"seed {seed} is not a training seed: evaluation starts from the task's own distribution, never from states of a bank"
            )
