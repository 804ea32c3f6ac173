"""Threads that keep a robot's deadlines run before ordinary processes, and the one that sends commands before the others."""

from __future__ import annotations

import gc
import os
from contextlib import suppress

CONTROL, BRIDGE, HARDWARE = 40, 39, 38
"""Priorities of SCHED_FIFO, of the thread that sends commands, of the rest of the bridge, and of what stands for hardware and people on a
host that simulates them: before every ordinary process, after the kernel's own interrupt threads (50)."""


def run_first(priority: int = BRIDGE) -> str:
    """This thread, and those that it starts, before ordinary processes. Returns why not, empty if it is so."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except PermissionError:
        return (
            "no real-time priority: on a busy host deadlines are missed, and the robot stops; allow it with "
            f"`ulimit -r {CONTROL}` (rtprio in /etc/security/limits.conf)"
        )
    return ""


def run_ahead() -> None:
    """This thread before the others that `run_first` has put first, if it has."""
    if os.sched_getscheduler(0) == os.SCHED_FIFO:
        with suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(CONTROL))


class Relief:
    """Lets a periodic loop rest that cannot keep up: of two ticks in a row that begin late, the second is left out.

    A loop that never rests, at real-time priority, is held up by the kernel for 50 ms in every second, and its process hears nothing
    meanwhile.
    """

    def __init__(self) -> None:
        self._late = False

    def leaves_out(self, late: bool) -> bool:
        """Whether this tick, which begins late or not, is left out. To be called once per tick."""
        out = late and self._late
        self._late = late and not out
        return out


def keep_loaded() -> None:
    """What exists now is never looked through again by the garbage collector, which holds up every thread while it looks."""
    gc.collect()
    gc.freeze()
