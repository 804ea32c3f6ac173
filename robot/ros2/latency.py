"""How old samples are when they arrive, as a histogram that training draws its randomisation from.

    {"unit": "s", "edges": [0.0, 0.005, ...], "counts": [12, ...], "stream": "joint_states"}

`counts[i]` samples have an age in `[edges[i], edges[i + 1])`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from policies.interface import UserError

BIN_S = 0.001
"""Width of a bin."""


@dataclass(frozen=True)
class LatencyHistogram:
    """Ages of one stream's samples on arrival."""

    stream: str
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    unit: str = "s"

    @classmethod
    def of(cls, stream: str, ages_s: Sequence[float]) -> LatencyHistogram:
        """Count ages in bins of 1 ms from 0 to beyond the oldest.

        Raises:
            UserError: no samples, or one from the future: the clocks of the two sides differ, and ages would be wrong.
        """
        ages = np.asarray(ages_s, float)
        if not len(ages):
            raise UserError(f"no sample of stream '{stream}' arrived, so there is no latency to write")
        if ages.min() < 0:
            raise UserError(
                f"a sample of stream '{stream}' arrived {-ages.min():.4f} s before its own stamp: the clocks of this computer and "
                "the robot differ; synchronise them (PTP or chrony) and measure again"
            )
        bins = int(np.floor(ages.max() / BIN_S)) + 1
        counts, _ = np.histogram(ages, bins=bins, range=(0.0, bins * BIN_S))
        return cls(stream, tuple(round(i * BIN_S, 6) for i in range(bins + 1)), tuple(counts.tolist()))

    def save(self, path: Path) -> None:
        """Write the histogram as JSON."""
        path.write_text(json.dumps(asdict(self), indent=2) + "\n")
