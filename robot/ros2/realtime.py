"""Threads that keep a robot's deadlines run before everything else on the host, as ros2_control's do."""

from __future__ import annotations

import gc
import os

PRIORITY = 40
"""Of SCHED_FIFO: before every ordinary process, after the kernel's own interrupt threads (50)."""


def run_first() -> str:
    """This thread, and those that it starts, before ordinary processes. Returns why not, empty if it is so."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    except PermissionError:
        return (
            "no real-time priority: on a busy host deadlines are missed, and the robot stops; allow it with "
            f"`ulimit -r {PRIORITY}` (rtprio in /etc/security/limits.conf)"
        )
    return ""


def keep_loaded() -> None:
    """What exists now is never looked through again by the garbage collector, which holds up every thread while it looks."""
    gc.collect()
    gc.freeze()
