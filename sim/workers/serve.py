"""The worker's side: answer requests in order until the parent goes away."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Protocol

from sim.vec_env import SimulationError
from sim.workers.process import RENDERER_HINT


class Episodes(Protocol):
    """The environments of one worker; every request of the parent is a method of it."""

    def close(self) -> None:
        """Free what the process will not free by itself."""
        ...


def serve(start: Callable[[Any], Episodes], extra: str = "train") -> None:
    """Answer requests `(method, arguments)` with `(error text or None, result)` on the connection named by `sys.argv[1]`.

    Args:
        start: makes the worker's episodes from the settings that the parent sends first; it imports the simulator.
        extra: what to install where a package of the simulator is missing.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = Connection(int(sys.argv[1]))
    episodes: Episodes | None = None
    try:
        settings = connection.recv()
        while True:
            method, arguments = connection.recv()
            try:
                episodes = episodes or _start(start, settings, extra)
                reply = (None, getattr(episodes, method)(*arguments))
            except Exception as error:
                reply = (_explain(error), None)
            connection.send(reply)
    except (EOFError, ConnectionError):
        if episodes is not None:
            episodes.close()


def _start(start: Callable[[Any], Episodes], settings: Any, extra: str) -> Episodes:
    try:
        return start(settings)
    except ModuleNotFoundError as error:
        raise SimulationError(f"this simulator needs package '{error.name}': install the extra '{extra}'") from error
    except (ImportError, AttributeError, OSError, RuntimeError) as error:
        if isinstance(error, SimulationError):
            raise
        backend = os.environ.get("MUJOCO_GL")
        raise SimulationError(f"cannot load OpenGL with MUJOCO_GL={backend} ({type(error).__name__}: {error}); {RENDERER_HINT}") from error


def _explain(error: Exception) -> str:
    """The text that the parent raises: one sentence where we know what is wrong, else the traceback."""
    return str(error) if isinstance(error, SimulationError) else "".join(traceback.format_exception(error)).strip()
