"""Late commands and late observations: measured latencies, commands on their way, and what is shown when.

Pure bookkeeping, counted in physics steps for commands and in control steps for observations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from sim.vec_env import SimulationError

MAX_DELAY_S = 0.5
"""How far environments remember."""


class Histogram(BaseModel):
    """Measured latencies of one stream of a robot."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    unit: Literal["s"]
    edges: tuple[float, ...]
    """One more than `counts`, rising [s]."""
    counts: tuple[int, ...]
    stream: str
    """What was measured, such as a topic's name."""

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if len(self.edges) != len(self.counts) + 1:
            raise ValueError(f"there must be one more of edges than of counts, got {len(self.edges)} and {len(self.counts)}")
        if not all(np.diff(self.edges) > 0):
            raise ValueError(f"edges must rise, got {list(self.edges)}")
        if min(self.counts) < 0 or sum(self.counts) == 0:
            raise ValueError(f"counts must not be negative and not all 0, got {list(self.counts)}")
        low, high = self.range_s
        if low < 0 or high > MAX_DELAY_S:
            raise ValueError(
                f"latencies reach from {low:g} to {high:g} s, allowed are 0 to {MAX_DELAY_S:g} s, which is what environments remember;"
                " remove what is no latency of a working robot, such as a stream that stood still"
            )
        return self

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a JSON file. Raises `SimulationError` naming the file and what is wrong with it."""
        try:
            return cls.model_validate_json(path.read_text())
        except OSError as error:
            raise SimulationError(f"cannot read the latency histogram {path}: {error.strerror}") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise SimulationError(f"{path} is no latency histogram: {f'{where}: ' if where else ''}{first['msg']}") from error

    @property
    def range_s(self) -> tuple[float, float]:
        """Shortest and longest latency that was measured [s]."""
        filled = np.flatnonzero(self.counts)
        return self.edges[filled[0]], self.edges[filled[-1] + 1]

    def draw(self, rng: np.random.Generator) -> float:
        """A latency [s]: a bin by its count, then any number in it."""
        bin = int(np.searchsorted(np.cumsum(self.counts), rng.integers(sum(self.counts)), side="right"))
        return float(rng.uniform(self.edges[bin], self.edges[bin + 1]))


@dataclass(frozen=True)
class Sent[T]:
    """A command on its way to the servos, or in force."""

    arrival: int
    """Physics step of the episode at which the servos get it."""
    command: T


def in_force[T](line: Sequence[Sent[T]], start: int, steps: int) -> tuple[list[tuple[int, T]], tuple[Sent[T], ...]]:
    """Which commands the servos follow over the physics steps `start` to `start + steps`.

    Args:
        line: commands in the order in which they were sent; the first has arrived by `start`.
        start: physics steps of the episode so far.
        steps: physics steps ahead.

    Returns:
        (physics steps, command) one after another, and the line without what will not be followed any more. Of the
        commands that have arrived the one sent last is followed: those that it overtook are dropped.
    """
    end = start + steps
    rising = [sent for i, sent in enumerate(line) if all(later.arrival > sent.arrival for later in line[i + 1 :])]
    rising = rising[sum(sent.arrival <= start for sent in rising) - 1 :]
    due = [sent for sent in rising[1:] if sent.arrival < end]
    times = [start, *(sent.arrival for sent in due), end]
    parts = [(times[i + 1] - times[i], sent.command) for i, sent in enumerate([rising[0], *due])]
    return parts, tuple(rising[sum(sent.arrival <= end for sent in rising) - 1 :])


def shown_step(now: int, before: int, delay_s: float, lost: bool, control_hz: float) -> int:
    """Of which control step the observation is that is shown after control step `now`.

    Args:
        now: control steps of the episode so far.
        before: what was shown one control step earlier.
        delay_s: age of the newest observation that could have arrived.
        lost: it did not.
        control_hz: control steps per second.

    Returns:
        From 0; never older than what was shown before, nor than `MAX_DELAY_S`.
    """
    newest = before if lost else max(before, now - round(delay_s * control_hz))
    return max(newest, now - round(MAX_DELAY_S * control_hz), 0)
