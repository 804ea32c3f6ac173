"""Processes that belong together end together, cleanly where they were asked to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from tests.repo.imports import ROOT

LONG = ["http.server", "0", "--bind", "127.0.0.1"]


def supervisor(*commands: list[str]) -> subprocess.Popen[str]:
    code = f"import sys; from robot.deploy import run_together; sys.exit(run_together({list(commands)}))"
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_the_end_of_one_ends_the_other_and_is_told() -> None:
    process = supervisor(LONG, ["json.tool", "no_such_file"])
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 2 and "no_such_file" in output


def test_sigterm_ends_both() -> None:
    """http.server has no handler of SIGTERM, so that its status is the signal's."""
    process = supervisor(LONG, LONG)
    assert process.stdout is not None
    assert all("Serving HTTP" in process.stdout.readline() for _ in range(2))
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == signal.SIGTERM


def test_none_outlives_a_supervisor_that_is_killed() -> None:
    """Their ends of the pipe close, which ends the reading."""
    process = supervisor(LONG, LONG)
    assert process.stdout is not None
    assert all("Serving HTTP" in process.stdout.readline() for _ in range(2))
    process.kill()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
