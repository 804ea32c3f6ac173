"""Intervals for success rates: Wilson for one policy, two-level bootstrap over training seeds and episodes.

Episodes of one policy are not independent evidence about a training method, so across training seeds
the bootstrap first draws seeds, then episodes of each drawn seed, separately within every task.

    S training seeds · T tasks · E episodes per task · R bootstrap resamples
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import sqrt
from typing import NamedTuple

import numpy as np

RESAMPLES = 4000
LEVEL = 0.95


class Interval(NamedTuple):
    """An estimate with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def wilson(successes: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson score interval of a success rate; `z` = 1.96 covers 95 %.

    Raises:
        ValueError: unless 0 <= successes <= n and n > 0.
    """
    if n <= 0 or not 0 <= successes <= n:
        raise ValueError(f"a success rate needs 0 <= successes <= n and n > 0, got {successes} of {n}")
    rate, z2 = successes / n, z * z
    centre = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = z / (1 + z2 / n) * sqrt(rate * (1 - rate) / n + z2 / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def two_level_bootstrap(per_seed: Sequence[np.ndarray], seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """Mean success over training seeds with its two-level bootstrap interval.

    Args:
        per_seed: one array of 0/1 outcomes per training seed, `(T, E)`, or `(E,)` for one task.
        seed: of the resampling, so that a table repeats exactly.
        resamples: R.

    Raises:
        ValueError: no seeds, differing shapes, or NaN.
    """
    outcomes = _stack(per_seed, "outcomes")
    means = np.concatenate([_means(outcomes, *draw) for draw in _draws(outcomes.shape, seed, resamples)])
    return _interval(float(outcomes.mean()), means)


def paired_difference(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray], seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """Difference of mean success, ours − theirs, resampling the same training seeds and episodes on both sides.

    Both sides must list the same training seeds in the same order, evaluated on the same initial states.

    Raises:
        ValueError: the sides differ in seeds, tasks or episodes.
    """
    a, b = _stack(ours, "ours"), _stack(theirs, "theirs")
    if a.shape != b.shape:
        raise ValueError(f"a paired difference needs equal (seeds, tasks, episodes) on both sides, got {a.shape} and {b.shape}")
    draws = _draws(a.shape, seed, resamples)
    differences = np.concatenate([_means(a, *draw) - _means(b, *draw) for draw in draws])
    return _interval(float(a.mean() - b.mean()), differences)


def gap_closed(
    start: Sequence[np.ndarray],
    ours: Sequence[np.ndarray],
    teacher: Sequence[np.ndarray],
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval | None:
    """Fraction (ours − start) / (teacher − start) of the gap to the teacher that training closed.

    `start` and `ours` are paired by training seed; `teacher` is one policy, or one per training seed.
    All are evaluated on the same initial states. None if the gap itself is not clearly positive
    (the 95 % interval of teacher − start reaches zero): the fraction would mean nothing.

    Raises:
        ValueError: the three differ in seeds, tasks or episodes.
    """
    a, b, c = _stack(start, "start"), _stack(ours, "ours"), _stack(teacher, "teacher")
    if len(c) == 1:
        c = np.repeat(c, len(a), axis=0)
    if not a.shape == b.shape == c.shape:
        raise ValueError(
            "the fraction of the gap closed needs equal (seeds, tasks, episodes) for start, ours and teacher, "
            f"got {a.shape}, {b.shape}, {c.shape}"
        )
    gaps, gains = [], []
    for draw in _draws(a.shape, seed, resamples):
        low = _means(a, *draw)
        gaps.append(_means(c, *draw) - low)
        gains.append(_means(b, *draw) - low)
    gap, gain = np.concatenate(gaps), np.concatenate(gains)
    if np.quantile(gap, (1 - LEVEL) / 2) <= 0:
        return None
    gap, gain = gap[gap > 0], gain[gap > 0]
    return _interval(float((b.mean() - a.mean()) / (c.mean() - a.mean())), gain / gap)


def _stack(per_seed: Sequence[np.ndarray], what: str) -> np.ndarray:
    """`(S, T, E)` float64; one-dimensional entries become one task."""
    arrays = [np.atleast_2d(np.asarray(outcomes, dtype=np.float64)) for outcomes in per_seed]
    if not arrays or not arrays[0].size:
        raise ValueError(f"{what}: no episodes were given")
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1:
        raise ValueError(f"{what}: training seeds were evaluated on different (tasks, episodes): {sorted(shapes)}")
    stacked = np.stack(arrays)
    if not np.isin(stacked, (0.0, 1.0)).all():
        raise ValueError(f"{what}: outcomes must be 0 or 1, got values such as {stacked[~np.isin(stacked, (0.0, 1.0))][0]}")
    return stacked


def _draws(shape: tuple[int, ...], seed: int, resamples: int, block: int = 250) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Blocks of resamples: seed indices `(r, S, 1, 1)` and episode indices `(r, S, T, E)`."""
    rng = np.random.default_rng(seed)
    seeds, _, episodes = shape
    for begin in range(0, resamples, block):
        size = min(block, resamples - begin)
        yield rng.integers(seeds, size=(size, seeds, 1, 1)), rng.integers(episodes, size=(size, *shape))


def _means(outcomes: np.ndarray, seeds: np.ndarray, episodes: np.ndarray) -> np.ndarray:
    """Mean of each resample `(r,)`."""
    tasks = np.arange(outcomes.shape[1])[:, None]
    return outcomes[seeds, tasks, episodes].mean(axis=(1, 2, 3))


def _interval(value: float, draws: np.ndarray) -> Interval:
    low, high = np.quantile(draws, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Interval(value, float(low), float(high))
