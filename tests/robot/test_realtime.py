"""The bridge before everything else on the host, where that is allowed."""

from __future__ import annotations

import gc
import os
import subprocess
import sys

import pytest

from robot.ros2.realtime import keep_loaded, run_first

THREADS = """
import os, threading
from robot.ros2.realtime import run_first

problem, found = run_first(), []
later = threading.Thread(target=lambda: found.append(os.sched_getscheduler(0)))
later.start()
later.join()
print(problem or found == [os.SCHED_FIFO])
"""


def test_threads_that_start_later_run_first_too_or_it_is_said_why_not() -> None:
    done = subprocess.run([sys.executable, "-c", THREADS], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True" or done.stdout.startswith("no real-time priority")


def test_a_refusal_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    assert "allow it with `ulimit -r 40`" in run_first()


def test_what_is_loaded_is_not_looked_through_again() -> None:
    try:
        keep_loaded()
        assert gc.get_freeze_count() > 1000
    finally:
        gc.unfreeze()
