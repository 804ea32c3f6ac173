"""A physics worker: a process that simulates and renders its share of the environments.

Started as `python -m sim.metaworld.worker <fd>`; answers requests on that connection in order, until it closes.
It stays light: it never imports torch, and numerical libraries run on one thread.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
import warnings
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from sim.metaworld.state import RENDERER_HINT, Settings
from sim.vec_env import SimulationError

if TYPE_CHECKING:
    from sim.metaworld.episodes import Episodes


def start(settings: Settings) -> Episodes:
    """Import the simulator, which also loads the OpenGL library, and make the worker's `Episodes`.

    Raises:
        SimulationError: a package or the OpenGL library is missing; says what to install.
    """
    try:
        from sim.metaworld.episodes import Episodes
    except (ImportError, AttributeError, OSError, RuntimeError) as error:
        if isinstance(error, ModuleNotFoundError):
            raise SimulationError(f"the Meta-World backend needs package '{error.name}': install the extra 'train'") from error
        backend = os.environ.get("MUJOCO_GL")
        raise SimulationError(f"cannot load OpenGL with MUJOCO_GL={backend} ({type(error).__name__}: {error}); {RENDERER_HINT}") from error
    return Episodes(settings)


def explain(error: Exception) -> str:
    """The text that the parent raises: one sentence where we know what is wrong, else the traceback."""
    return str(error) if isinstance(error, SimulationError) else "".join(traceback.format_exception(error)).strip()


def main() -> None:
    """Answer requests `(method, arguments)` with `(error text or None, result)` until the parent goes away."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.filterwarnings("ignore", message="Constant\\(s\\) may be too high")
    connection = Connection(int(sys.argv[1]))
    episodes: Episodes | None = None
    try:
        settings = connection.recv()
        while True:
            method, arguments = connection.recv()
            try:
                episodes = episodes or start(settings)
                reply = (None, getattr(episodes, method)(*arguments))
            except Exception as error:
                reply = (explain(error), None)
            connection.send(reply)
    except (EOFError, ConnectionError):
        if episodes is not None:
            episodes.close()


if __name__ == "__main__":
    main()
