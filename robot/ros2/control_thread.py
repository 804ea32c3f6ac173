"""The one thread that sends commands: by absolute deadlines of the monotonic clock, or once per tick of a simulator."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

LOCKSTEP_WAIT_S = 0.1
"""How often a lockstep loop looks whether to stop while no tick comes."""


@dataclass(frozen=True)
class Beat:
    """One call of the loop."""

    now_s: float
    dt_s: float
    """Since the last call; one period on the first."""
    missed: int
    """Deadlines that passed unused since the last call."""


class ControlThread:
    """Calls `tick` until stopped. An exception ends the loop and is handed to `failed`: the robot's own watchdog then holds it."""

    def __init__(
        self,
        tick: Callable[[Beat], None],
        failed: Callable[[BaseException], None],
        period_s: float,
        next_tick_s: Callable[[float, float], float | None] | None = None,
    ) -> None:
        """Prepare a loop.

        Args:
            tick: does the work.
            failed: called when `tick` raised.
            period_s: between deadlines.
            next_tick_s: in lockstep, waits for the simulator's next tick after a time, and at most so many seconds;
                `None` keeps deadlines.
        """
        self._tick, self._failed, self._period_s, self._next_tick_s = tick, failed, period_s, next_tick_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the tick under way."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            (self._deadlines if self._next_tick_s is None else self._lockstep)()
        except BaseException as error:
            self._failed(error)

    def _deadlines(self) -> None:
        start_s = last_s = time.monotonic()
        beats = 0
        while not self._stop.wait(max(0.0, start_s + beats * self._period_s - time.monotonic())):
            now_s = time.monotonic()
            missed = max(0, int((now_s - start_s) / self._period_s) - beats)
            self._tick(Beat(now_s, now_s - last_s if beats else self._period_s, missed))
            last_s, beats = now_s, beats + missed + 1

    def _lockstep(self) -> None:
        assert self._next_tick_s is not None
        last_s: float | None = None
        while not self._stop.is_set():
            now_s = self._next_tick_s(-1.0 if last_s is None else last_s, LOCKSTEP_WAIT_S)
            if now_s is None:
                continue
            self._tick(Beat(now_s, self._period_s if last_s is None else now_s - last_s, 0))
            last_s = now_s
