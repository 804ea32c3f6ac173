"""Threads that keep a robot's deadlines run before ordinary processes, and the one that sends commands before the others."""

from __future__ import annotations

import gc
import os
from contextlib import suppress

PRIORITY = 40
"""Of SCHED_FIFO, of the thread that sends commands: before every ordinary process, after the kernel's own interrupt threads (50)."""


def run_first() -> str:
    """This thread, and those that it starts, before ordinary processes. Returns why not, empty if it is so."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY - 1))
    except PermissionError:
        return (
            "no real-time priority: on a busy host deadlines are missed, and the robot stops; allow it with "
            f"`ulimit -r {PRIORITY}` (rtprio in /etc/security/limits.conf)"
        )
    return ""


def run_ahead() -> None:
    """This thread before the others that `run_first` has put first, if it has."""
    if os.sched_getscheduler(0) == os.SCHED_FIFO:
        with suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))


def keep_loaded() -> None:
    """What exists now is never looked through again by the garbage collector, which holds up every thread while it looks."""
    gc.collect()
    gc.freeze()
