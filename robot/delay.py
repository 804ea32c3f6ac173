"""How long a policy takes from observation to chunk: a quantile of the last calls, the first one left out."""

from __future__ import annotations

from collections import deque

import numpy as np

WINDOW = 50
QUANTILE = 0.9


class DelayEstimate:
    """Of the time from observation to arrival [s]. The first call after a start loads and compiles; it says nothing."""

    def __init__(self, initial_s: float = 0.0) -> None:
        self._initial_s = initial_s
        self._recent: deque[float] = deque(maxlen=WINDOW)
        self._calls = 0

    def see(self, delay_s: float) -> None:
        """The delay of a call."""
        self._calls += 1
        if self._calls > 1:
            self._recent.append(delay_s)

    @property
    def seconds(self) -> float:
        """What to expect; the initial value before the second call."""
        return float(np.quantile(self._recent, QUANTILE)) if self._recent else self._initial_s
