"""What is known of a robot and its bridge at a moment. One thread brings samples, another asks for moments. No transport, no drawing.

J commanded coordinates
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

KEPT = 100
"""Newest times that medians are taken of."""
SILENT_S = 1.0
"""After so long without a sample a stream counts as silent; the bridge speaks every second, and gets three."""


@dataclass(frozen=True)
class Moment:
    """All that a page draws."""

    status: Mapping[str, Any] = field(default_factory=dict)
    """What the bridge says of itself; empty while it is silent."""
    measured: np.ndarray | None = None
    """`(J,)` positions; none while joint states are silent."""
    commanded: np.ndarray | None = None
    """`(J,)` that left last; none while nothing leaves."""
    images: Mapping[str, np.ndarray] = field(default_factory=dict)
    """`(H, W, 3)` uint8 by camera; those that are not silent."""
    instruction: str = ""
    """What the policy was told for its last chunk."""
    latency_ms: Mapping[str, float] = field(default_factory=dict)
    """Median of the newest by stage: `decided`, `sent` (since the observation), `followed` (likewise), `commands apart`."""
    events: tuple[str, ...] = ()
    """What the filter and the runtime reported last, newest first."""


class Watch:
    """Takes samples, gives moments. A sink of `robot.ros2.feed.Feed`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = Moment()
        self._heard_s: dict[str, float] = {}
        self._times: dict[str, deque[float]] = {name: deque(maxlen=KEPT) for name in ("decided", "sent", "followed", "commands apart")}
        self._sent_ns: int | None = None

    def felt(self, stamp_ns: int, position: np.ndarray) -> None:
        """Measured positions `(J,)`."""
        del stamp_ns
        self._take("measured", measured=position)

    def saw(self, camera: str, stamp_ns: int, image: np.ndarray) -> None:
        """An image `(H, W, 3)` uint8, RGB."""
        del stamp_ns
        self._take(f"image {camera}", images={**self._now.images, camera: image})

    def commanded(self, stamp_ns: int, position: np.ndarray) -> None:
        """Positions `(J,)` that were really sent."""
        with self._lock:
            if self._sent_ns is not None and 0 < stamp_ns - self._sent_ns < 1e9 * SILENT_S:
                self._times["commands apart"].append((stamp_ns - self._sent_ns) / 1e9)
            self._sent_ns = stamp_ns
        self._take("commanded", commanded=position)

    def reported(self, status: Mapping[str, Any]) -> None:
        """The bridge's status."""
        self._take("status", status=status)

    def decided(self, values: Mapping[str, Any]) -> None:
        """The policy's report of a chunk."""
        with self._lock:
            self._times["decided"].append(values["inference_s"])
            self._times["sent"].append(values["age_s"])
        self._take("policy", instruction=values["instruction"])

    def followed(self, values: Mapping[str, Any]) -> None:
        """The bridge's report of a chunk that it follows."""
        with self._lock:
            self._times["followed"].append(values["age_s"])

    def happened(self, text: str) -> None:
        """A safety event."""
        self._take("event", events=(text, *self._now.events)[:5])

    def moment(self) -> Moment:
        """What is known now; what fell silent is left out."""
        with self._lock:
            now, heard = self._now, dict(self._heard_s)
            latency = {name: 1e3 * float(np.median(times)) for name, times in self._times.items() if times}
        at_s = time.monotonic()

        def live(name: str, limit_s: float = SILENT_S) -> bool:
            return name in heard and at_s - heard[name] < limit_s

        return replace(
            now,
            status=now.status if live("status", 3 * SILENT_S) else {},
            measured=now.measured if live("measured") else None,
            commanded=now.commanded if live("commanded") else None,
            images={camera: image for camera, image in now.images.items() if live(f"image {camera}")},
            latency_ms=latency if live("commanded") or live("policy") else {},
        )

    def _take(self, heard: str, **values: Any) -> None:
        with self._lock:
            self._now = replace(self._now, **values)
            self._heard_s[heard] = time.monotonic()
