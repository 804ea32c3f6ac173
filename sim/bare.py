"""What a benchmark asks of a simulator by itself, of our scenes without our environments. No simulator here."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class BareSettings:
    """N copies of one task's scene at its first training seeds, whose robots hold still."""

    task: str
    robot: str
    num_envs: int
    image_px: int
    camera: str
    chunk: int
    """Control steps from one image to the next."""


def steps_per_second(decide: Callable[[bool], None], steps: int, draw: bool, seconds: float) -> float:
    """Control steps per second of `decide`, called for at least `seconds`; a call does `steps`, and with `draw` one image each."""
    began_s, done = time.perf_counter(), 0
    while (elapsed_s := time.perf_counter() - began_s) < seconds or not done:
        decide(draw)
        done += steps
    return done / elapsed_s
