"""Deadlines of the control thread on a clock that the test moves, and on the real one."""

from __future__ import annotations

import threading
import time

import pytest

pytest.importorskip("rclpy", reason="needs the ros extra: pip install 'vla-rl[ros]'")

from robot.ros2.control_thread import ControlThread, WallClock

pytestmark = pytest.mark.ros


class SteppedClock:
    """Sleeps take no time but what is asked for; `late_s` is added once, in the tick that is named."""

    def __init__(self) -> None:
        self.time_s = 100.0

    def now_s(self) -> float:
        return self.time_s

    def sleep_until(self, time_s: float, stop: threading.Event) -> None:
        self.time_s = max(self.time_s, time_s)


def run(clock, period_s: float, tick, ticks: int) -> list[BaseException]:
    """Runs so many ticks, then raises in the tick to come to an end."""
    done, failures = threading.Event(), []
    calls = []

    def counted(now_s: float, dt_s: float) -> bool:
        if len(calls) == ticks:
            raise StopIteration
        calls.append(now_s)
        return tick(now_s, dt_s)

    def failed(error: BaseException) -> None:
        failures.append(error)
        done.set()

    thread = ControlThread(clock, period_s, counted, failed)
    thread.start()
    assert done.wait(60)
    thread.stop()
    return failures


def test_late_ticks_do_not_shift_later_ones():
    """Tick 2 takes 2.3 periods: tick 3 would be over, tick 4 is due at 0.4 s and late, then 0.5 s again."""
    clock, seen = SteppedClock(), []

    def tick(now_s: float, dt_s: float) -> bool:
        seen.append((round(now_s - 100.0, 6), round(dt_s, 6)))
        if len(seen) == 3:
            clock.time_s += 0.23
        return True

    [error] = run(clock, 0.1, tick, ticks=6)
    assert isinstance(error, StopIteration)
    assert seen == [(0.0, 0.1), (0.1, 0.1), (0.2, 0.1), (0.4, 0.2), (0.5, 0.1), (0.6, 0.1)]


def test_a_loop_that_is_always_late_rests_after_every_second_tick():
    """Ticks take 1.2 periods: the second of two begins late by 0.2, and after it the third is left out, as it would by 0.4."""
    seen, rested = [], []

    class Resting(SteppedClock):
        def sleep_until(self, time_s: float, stop: threading.Event) -> None:
            rested.append(round(max(time_s - self.time_s, 0.0), 6))
            super().sleep_until(time_s, stop)

    clock = Resting()

    def tick(now_s: float, dt_s: float) -> bool:
        seen.append((round(now_s - 100.0, 6), round(dt_s, 6)))
        clock.time_s += 0.12
        return True

    run(clock, 0.1, tick, ticks=6)
    assert seen == [(0.0, 0.1), (0.1, 0.1), (0.3, 0.2), (0.4, 0.1), (0.6, 0.2), (0.7, 0.1)]
    assert rested[:6] == [0.0, 0.0, 0.06, 0.0, 0.06, 0.0]


def test_a_tick_that_sent_nothing_is_done_again():
    seen = []

    def tick(now_s: float, dt_s: float) -> bool:
        seen.append((round(now_s - 100.0, 6), round(dt_s, 6)))
        return len(seen) not in (1, 2)

    class Lockstep(SteppedClock):
        def sleep_until(self, time_s: float, stop: threading.Event) -> None:
            assert len(seen) < 3 or time_s > self.time_s
            super().sleep_until(time_s, stop)

    run(Lockstep(), 0.1, tick, ticks=4)
    assert seen == [(0.0, 0.1), (0.0, 0.1), (0.0, 0.1), (0.1, 0.1)]


def test_an_exception_is_handed_over_and_stopping_is_prompt():
    def broken(now_s: float, dt_s: float) -> bool:
        raise RuntimeError("no")

    [error] = run(WallClock(), 0.01, broken, ticks=1)
    assert str(error) == "no"
    thread = ControlThread(WallClock(), 30.0, lambda now_s, dt_s: True, lambda error: None)
    thread.start()
    began = time.monotonic()
    thread.stop()
    assert time.monotonic() - began < 10.0
