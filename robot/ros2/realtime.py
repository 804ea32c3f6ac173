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


def keep_loaded() -> None:
    """What exists now is never looked through again by the garbage collector, which holds up every thread while it looks."""
    gc.collect()
    gc.freeze()
