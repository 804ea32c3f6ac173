"""Calls a runtime by absolute deadlines of a monotonic clock: what a tick takes, or oversleeps, does not shift the next one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from robot.limiter import Motion
from robot.runtime import Operators, Runtime, Tick
from robot.safety import Measurement

ROUNDING = 1e-6
"""Share of a period."""


class Clock(Protocol):
    """A monotonic clock."""

    def now_s(self) -> float:
        """Time."""
        ...

    def sleep_until(self, time_s: float) -> None:
        """Return at a time, or at once if it is over."""
        ...


class MonotonicClock:
    """The machine's."""

    def now_s(self) -> float:
        return time.monotonic()

    def sleep_until(self, time_s: float) -> None:
        time.sleep(max(time_s - time.monotonic(), 0.0))


class Robot(Protocol):
    """A driver: it only reads and sends. Neither call may block for long."""

    def read(self) -> Measurement | None:
        """The newest measurement; None before there is one."""
        ...

    def send(self, command: Motion, damped: bool) -> None:
        """Command all joints; `damped` asks for the profile's damping gains instead of stiffness."""
        ...

    def others(self) -> int:
        """Publishers on the robot's command topics besides us."""
        ...


def run(
    runtime: Runtime,
    robot: Robot,
    clock: Clock,
    period_s: float,
    operators: Callable[[], Operators],
    on_tick: Callable[[Tick], bool],
) -> None:
    """Tick until `on_tick` returns False. Then, and on any exception, the robot is brought to rest before this ends.

    An exception is a fault, except for Ctrl-C. Where not even stopping works, the robot's own watchdog has to hold it.

    Args:
        runtime: what decides.
        robot: what moves.
        clock: what time it is.
        period_s: between ticks.
        operators: what people say now.
        on_tick: called after every tick: logs, arms, disarms, and says whether to go on.
    """
    beat = Beat(clock, period_s)
    try:
        while on_tick(step(runtime, robot, beat, operators())):
            pass
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            runtime.disarm()
        else:
            runtime.fault(f"the control loop failed: {type(error).__name__}: {error}")
        try:
            _come_to_rest(runtime, robot, beat, operators)
        except Exception as again:
            error.add_note(f"the robot could not be brought to rest: {type(again).__name__}: {again}")
        raise
    runtime.disarm()
    _come_to_rest(runtime, robot, beat, operators)


class Beat:
    """Deadlines at whole numbers of periods after the start."""

    def __init__(self, clock: Clock, period_s: float) -> None:
        self._clock, self._period_s, self._start_s, self._count = clock, period_s, clock.now_s(), 0

    def wait(self) -> tuple[float, float]:
        """Sleeps until the next deadline. The time of the last deadline that is over then, and the time since the one before."""
        before = self._count
        self._clock.sleep_until(self._start_s + max(before + 1, self._passed()) * self._period_s)
        self._count = max(before + 1, self._passed())
        return self._start_s + self._count * self._period_s, (self._count - before) * self._period_s

    def _passed(self) -> int:
        """Deadlines that are over."""
        return int((self._clock.now_s() - self._start_s) / self._period_s + ROUNDING)


def step(runtime: Runtime, robot: Robot, beat: Beat, operators: Operators) -> Tick:
    """Wait for a deadline, then read, decide and send."""
    now_s, dt_s = beat.wait()
    tick = runtime.tick(now_s, dt_s, robot.read(), operators, robot.others())
    if tick.command is not None:
        robot.send(tick.command, tick.damped)
    return tick


def _come_to_rest(runtime: Runtime, robot: Robot, beat: Beat, operators: Callable[[], Operators], patience: int = 1000) -> None:
    """Ticks until commands stand still; at most `patience` of them."""
    for _ in range(patience):
        tick = step(runtime, robot, beat, operators())
        if tick.command is None or not tick.command.velocity.any():
            return
