"""The one thread that sends commands, at whole numbers of periods after its start: of the monotonic clock, or of a simulator."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

from robot.ros2.realtime import Relief, run_ahead
from robot.ros2.robot_io import RosRobot

WAIT_S = 0.1
"""How often a wait for a simulator looks whether to stop."""
AGAIN_S = 0.02
"""Between ticks that are done again."""


class StoppableClock(Protocol):
    """What deadlines are kept by [s]."""

    def now_s(self) -> float:
        """Time."""
        ...

    def sleep_until(self, time_s: float, stop: threading.Event) -> None:
        """Return at a time, or as soon as the event is set."""
        ...


class WallClock:
    """This computer's monotonic clock."""

    def now_s(self) -> float:
        return time.monotonic()

    def sleep_until(self, time_s: float, stop: threading.Event) -> None:
        stop.wait(max(time_s - time.monotonic(), 0.0))


class LockstepClock:
    """A simulator's: the stamp of its newest joint states, which it publishes once per tick."""

    def __init__(self, robot: RosRobot) -> None:
        self._robot = robot

    def now_s(self) -> float:
        sample = self._robot.latest
        return sample.stamps.header_ns / 1e9 if sample else 0.0

    def sleep_until(self, time_s: float, stop: threading.Event) -> None:
        just_before_ns = round(1e9 * time_s) - 1000
        while not stop.is_set() and self._robot.wait(just_before_ns, WAIT_S) is None:
            pass


class ControlThread:
    """Calls `tick(now_s, dt_s)` until stopped; a late tick does not shift the next one.

    Of two that would begin late in a row the second is left out, see `Relief`.

    A tick that returns False is done again: nothing was sent, and a simulator that waits for a command lets no time pass.

    An exception of `tick` ends the loop and is handed to `failed`: from then on nothing is sent, and the robot's own watchdog
    has to hold it.
    """

    def __init__(
        self, clock: StoppableClock, period_s: float, tick: Callable[[float, float], bool], failed: Callable[[BaseException], None]
    ) -> None:
        self._clock, self._period_s, self._tick, self._failed = clock, period_s, tick, failed
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
        run_ahead()
        start_s, count, relief = self._clock.now_s(), -1, Relief()
        try:
            while True:
                passed = (self._clock.now_s() - start_s) / self._period_s
                before, count = count, max(count + 1, int(passed + 1e-6))
                if relief.leaves_out(passed > count + 1e-3):
                    count += 1
                now_s = start_s + count * self._period_s
                self._clock.sleep_until(now_s, self._stop)
                if self._stop.is_set():
                    return
                if not self._tick(now_s, (count - before) * self._period_s):
                    count -= 1
                    self._stop.wait(AGAIN_S)
        except BaseException as error:
            self._failed(error)
