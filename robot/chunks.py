"""Chunks of joint positions over time, and what happens when one takes over from another. H steps · J joints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Blend = Literal["replace", "crossfade", "ensemble", "rtc"]
"""How a new chunk takes over: at once · over a few steps · as the weighted mean of all that speak of a time (ACT) · at once, from
a policy that was told what is already committed (real-time chunking)."""
Phase = Literal["waiting", "play", "extrapolate", "decelerate", "hold", "starved"]
"""No chunk yet · following · past the last step · braking · at rest · at rest for too long."""
Refusal = Literal["shape", "not_finite", "duplicate", "older", "expired", "future", "far"]


@dataclass(frozen=True)
class Chunk:
    """Where joints are to be at `t0_s + i · dt_s`."""

    id: int
    t0_s: float
    """Time of the observation, in the runtime's clock."""
    dt_s: float
    positions: np.ndarray
    """`(H, J)` float64, units of the profile."""

    @property
    def times_s(self) -> np.ndarray:
        """`(H,)`."""
        return self.t0_s + self.dt_s * np.arange(len(self.positions))

    def at(self, times_s: np.ndarray) -> np.ndarray:
        """`(T, J)` positions at times, linear between steps."""
        return np.stack([np.interp(times_s, self.times_s, column) for column in self.positions.T], axis=1)

    def covers(self, time_s: float) -> bool:
        """Whether a time lies between the first and the last step."""
        return self.times_s[0] - 1e-9 <= time_s <= self.times_s[-1] + 1e-9


@dataclass(frozen=True)
class Border:
    """A chunk was accepted: what changed where it took over."""

    chunk: int
    at_s: float
    dropped: int
    """Steps that were too late."""
    jump: np.ndarray
    """`(J,)` Δq: what the chunk wants now minus what the last one wanted."""
    velocity_jump: np.ndarray
    """`(J,)` Δdq."""
    peak_jerk: np.ndarray
    """`(J,)` of the transition."""
    starved_s: float
    """How long there was nothing to follow before."""
    age_s: float
    """Of its observation."""
    expected_delay_s: float
    """Estimated before it came."""
    delay_alarm: bool
    """The delay was more than a step from the estimate."""


@dataclass(frozen=True)
class Rejected:
    """A chunk was not accepted."""

    chunk: int
    code: Refusal
    detail: str


@dataclass(frozen=True)
class Setpoint:
    """What to ask the safety filter for."""

    phase: Phase
    position: np.ndarray | None
    """`(J,)`; none to brake and hold."""
    velocity: np.ndarray
    """`(J,)`."""
    age_s: float = 0.0
    """Of the observation that it comes from."""


def ensemble(chunks: list[Chunk], times_s: np.ndarray, decay: float) -> np.ndarray:
    """`(T, J)` weighted means of all chunks that cover a time, the oldest first with weights exp(-decay · i) (ACT)."""
    means = []
    for time_s in times_s:
        speaking = [chunk.at(np.array([time_s]))[0] for chunk in chunks if chunk.covers(time_s)]
        weights = np.exp(-decay * np.arange(len(speaking)))
        means.append(np.average(speaking, axis=0, weights=weights))
    return np.array(means)
