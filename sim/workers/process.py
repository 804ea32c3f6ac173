"""The parent's side of a worker: start it, send requests, collect replies in order, notice its death."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from ctypes.util import find_library
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

from sim.vec_env import SimulationError

ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "LP_NUM_THREADS")}
"""Workers are the parallelism: numerical libraries and the software renderer stay on one thread."""


RENDERER_HINT = (
    "software rendering needs libosmesa6 (apt-get install libosmesa6, with MUJOCO_GL=osmesa) or EGL "
    "(apt-get install libegl1 libgl1-mesa-dri, with MUJOCO_GL=egl)"
)


def software_gl() -> str:
    """MuJoCo's name of a renderer that needs no screen: OSMesa where it is installed, else EGL."""
    return "osmesa" if find_library("OSMesa") else "egl"


class WorkerProcess:
    """One worker. A plain subprocess, so that it neither inherits nor imports anything of the parent's program."""

    def __init__(self, module: str, settings: Any) -> None:
        """Start `python -m module <fd>` and send it the settings."""
        self._connection, theirs = Pipe()
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env={"MUJOCO_GL": software_gl()} | dict(os.environ) | ONE_THREAD | {"PYTHONPATH": path},
        )
        theirs.close()
        self._connection.send(settings)
        self._waiting: deque[Future[Any]] = deque()
        self._lock = threading.Lock()
        self._failure: str | None = None
        self._reader = threading.Thread(target=self._read, name="worker-replies", daemon=True)
        self._reader.start()

    def request(self, method: str, *arguments: Any) -> Future[Any]:
        """Queue a call of the worker; it answers in order. The future raises `SimulationError` if the call fails."""
        future: Future[Any] = Future()
        with self._lock:
            if self._failure is not None:
                raise SimulationError(self._failure)
            self._waiting.append(future)
            with suppress(ConnectionError):  # the reader notices the end and fails every future
                self._connection.send((method, arguments))
        return future

    def close(self) -> None:
        """Stop the process at once; calls under way fail. Safe to call twice."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        self._connection.close()

    def _read(self) -> None:
        """Hand replies to the futures that wait for them, until the connection ends."""
        while True:
            try:
                error, value = self._connection.recv()
            except (EOFError, ConnectionError):
                break
            future = self._waiting.popleft()
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(SimulationError(error))
        code = self._process.wait()
        with self._lock:
            self._failure = f"a simulation worker has stopped (exit code {code}); close this environment and make a new one"
            for future in self._waiting:
                future.set_exception(SimulationError(self._failure))
            self._waiting.clear()
