"""A small spec and random observations for policy tests."""

from __future__ import annotations

import numpy as np

from policies.interface import ActionSpec, Entry, Observation, PolicySpec

IMAGE, STATE, TEXT = "observation.images.front", "observation.state", "task"

SPEC = PolicySpec(
    embodiment="test-arm",
    entries=(
        Entry(name=IMAGE, kind="image", shape=(32, 32, 3), frame="front"),
        Entry(name=STATE, kind="state", shape=(2,), names=("x [m]", "y [m]"), low=(-2.0, 0.0), high=(2.0, 1.0), frame="world"),
        Entry(name=TEXT, kind="text"),
    ),
    action=ActionSpec(names=("dx", "grip"), representation="delta", low=(-0.1, 0.0), high=(0.1, 1.0)),
    control_hz=10,
    chunk=4,
    executed=3,
)


def observations(batch: int, seed: int = 0) -> Observation:
    """Random observations that fit `SPEC`."""
    rng = np.random.default_rng(seed)
    return {
        IMAGE: rng.integers(0, 256, (batch, 32, 32, 3), dtype=np.uint8),
        STATE: rng.uniform(-1, 1, (batch, 2)).astype(np.float32),
        TEXT: np.array([("open the door", "close it")[i % 2] for i in range(batch)]),
    }
