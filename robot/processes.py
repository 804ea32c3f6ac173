"""Processes of this interpreter whose output goes to files, and which end with the block that asked for them."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

PR_SET_PDEATHSIG = 1
"""Of <sys/prctl.h>."""
END_S = 20.0
"""How long a process may take to end when asked to."""


def end_with_parent() -> None:
    """Have the kernel ask this process to end (SIGTERM) when the one that started it has ended, even by SIGKILL. On Linux.

    For `preexec_fn` of a process that the main thread starts: it is that thread's end which counts. Lost where the program has file
    capabilities (`setcap`).
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Child:
    """A process that is started when it is needed, again if it has ended."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        """`command` are arguments of the interpreter; output is added to `log`."""
        self._command, self._log = list(command), log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, unless it runs."""
        if not self.alive:
            with self._log.open("a") as log:
                self._process = subprocess.Popen(
                    [sys.executable, *self._command],
                    stdout=log, stderr=subprocess.STDOUT, start_new_session=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
                    preexec_fn=end_with_parent,
                )  # fmt: skip

    @property
    def alive(self) -> bool:
        """Whether it runs; stopped by a signal counts as running."""
        return self._process is not None and self._process.poll() is None

    @property
    def ended(self) -> bool:
        """Whether it was started and runs no more."""
        return self._process is not None and not self.alive

    @property
    def last_words(self) -> str:
        """The end of its output."""
        return self._log.read_text()[-1000:].strip()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it runs."""
        if self._process is not None and self.alive:
            self._process.send_signal(number)

    def wait(self) -> None:
        """Return when it has ended. Raises `TimeoutExpired` after `END_S`."""
        if self._process is not None:
            self._process.wait(END_S)

    def stop(self) -> None:
        """End it as Ctrl-C would, by force if it does not."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            self.wait()
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
            self.wait()


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM, and SIGHUP of a terminal that is closed, are as Ctrl-C within this block, so that it is left in order."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def children(commands: Mapping[str, Sequence[str]], logs: Path) -> Iterator[dict[str, Child]]:
    """Processes by name, none of them started yet; they end with this block, the last one first, however it ends (`interruptible`).

    Logs of earlier processes of these names in the folder `logs` are deleted.
    """
    logs.mkdir(parents=True, exist_ok=True)
    found = {name: Child(command, logs / f"{name}.log") for name, command in commands.items()}
    for name in commands:
        (logs / f"{name}.log").unlink(missing_ok=True)
    with interruptible():
        try:
            yield found
        finally:
            for child in reversed(found.values()):
                child.stop()
