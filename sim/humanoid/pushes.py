"""Pushes against the torso: when, where to and how hard, from an episode's seed. One in each period, horizontal."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

PERIOD_S = 2.0
"""One push in each."""
LASTS_S = 0.15
FORCE_N = (10.0, 30.0)
"""Range of its strength; 30 N for 0.15 s change the speed of 33 kg by 0.14 m/s."""
STREAM = 3
"""Of an episode's seed; 0 to 2 are its initial state, its instruction and the noise of its demonstration."""


def push(seed: int, time_s: float) -> np.ndarray:
    """`(3,)` force at a time of the episode, world frame [N]."""
    period = int(time_s // PERIOD_S)
    start_s, force = _drawn(seed, period)
    return force if 0 <= time_s - period * PERIOD_S - start_s < LASTS_S else np.zeros(3)


@lru_cache(maxsize=256)
def _drawn(seed: int, period: int) -> tuple[float, np.ndarray]:
    """When in a period a push begins, and its force."""
    rng = np.random.default_rng([seed, STREAM, period])
    start_s, angle = rng.uniform(0, PERIOD_S - LASTS_S), rng.uniform(0, 2 * np.pi)
    return start_s, rng.uniform(*FORCE_N) * np.array([np.cos(angle), np.sin(angle), 0.0])
