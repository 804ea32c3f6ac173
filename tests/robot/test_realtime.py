"""The bridge before everything else on the host, where that is allowed."""

from __future__ import annotations

import gc
import os
import subprocess
import sys

import pytest

from robot.ros2.realtime import Relief, keep_loaded, run_first

THREADS = """
import os, threading
from robot.ros2.realtime import HARDWARE, run_ahead, run_first

def look():
    found.append((os.sched_getscheduler(0) == os.SCHED_FIFO, os.sched_getparam(0).sched_priority))

def look_ahead():
    run_ahead()
    look()

run_ahead()
look_first = os.sched_getscheduler(0) != os.SCHED_FIFO
problem, found = run_first(), []
for work in (look, look_ahead):
    later = threading.Thread(target=work)
    later.start()
    later.join()
run_first(HARDWARE)
look()
print(problem or (look_first, found))
"""


def test_threads_that_start_later_run_first_too_and_one_of_them_before_the_others() -> None:
    done = subprocess.run([sys.executable, "-c", THREADS], capture_output=True, text=True, check=True)
    if done.stdout.startswith("no real-time priority"):
        pytest.skip(done.stdout)
    assert done.stdout.strip() == "(True, [(True, 39), (True, 40), (True, 38)])"


def test_a_refusal_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    assert "allow it with `ulimit -r 40`" in run_first()


def test_of_two_late_ticks_in_a_row_the_second_is_left_out() -> None:
    relief = Relief()
    late = [False, True, False, True, True, True, True, True, False]
    assert [relief.leaves_out(tick) for tick in late] == [False, False, False, False, True, False, True, False, False]


def test_what_is_loaded_is_not_looked_through_again() -> None:
    try:
        keep_loaded()
        assert gc.get_freeze_count() > 1000
    finally:
        gc.unfreeze()
