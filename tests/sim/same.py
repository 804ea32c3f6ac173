"""Random actions, and equality to the last bit of what environments show and return."""

from __future__ import annotations

import numpy as np

from policies.interface import Observation
from sim.vec_env import ChunkStep


def noise(seed: int, n: int, length: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (n, length, 5)).astype(np.float32)


def assert_same(a: Observation, b: Observation) -> None:
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def assert_same_step(a: ChunkStep, b: ChunkStep) -> None:
    assert_same(a.obs, b.obs)
    for name in ("reward", "success", "terminated", "truncated", "executed"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
