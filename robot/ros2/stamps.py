"""When a sample was taken: the sender's stamp where it can be trusted, else the time of arrival."""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass

WINDOW = 101
"""Samples that the running median is taken over."""
LARGEST_OFFSET_S = 0.5
"""A median offset beyond this is another clock, or no stamp at all."""
LARGEST_JUMP_S = 0.1
"""A single offset further than this from the median is a wrong stamp."""


@dataclass(frozen=True)
class Stamps:
    """The three stamps of a sample [ns]."""

    header_ns: int
    """What the sender wrote, by the sender's clock."""
    receive_ns: int
    """On arrival, by the ROS clock: the wall clock, or /clock in simulation."""
    monotonic_ns: int
    """On arrival, by this computer's monotonic clock; what watchdogs use."""


class Aligner:
    """Decides for one stream which stamp to align on."""

    def __init__(self) -> None:
        self._offsets_ns: deque[int] = deque(maxlen=WINDOW)

    @property
    def offset_s(self) -> float:
        """Running median of arrival minus header stamp: transport plus difference of clocks [s]."""
        return statistics.median(self._offsets_ns) / 1e9 if self._offsets_ns else 0.0

    def capture_ns(self, stamps: Stamps) -> int:
        """When the sample was taken, by the ROS clock."""
        offset_ns = stamps.receive_ns - stamps.header_ns
        self._offsets_ns.append(offset_ns)
        median_s = self.offset_s
        if abs(median_s) > LARGEST_OFFSET_S or abs(offset_ns / 1e9 - median_s) > LARGEST_JUMP_S:
            return stamps.receive_ns
        return min(stamps.header_ns, stamps.receive_ns)
