"""A LIBERO worker: `python -m sim.libero.worker <fd>`, which goes on in an environment of `sim.libero.library`."""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
import warnings
from typing import TYPE_CHECKING

from sim.libero.env import Settings
from sim.libero.library import environment
from sim.vec_env import SimulationError
from sim.workers.serve import serve

if TYPE_CHECKING:
    from sim.workers.episodes import Episodes


def start(settings: Settings) -> Episodes:
    """Import the simulator, which takes a quarter of a minute. Raises `SimulationError` if it could not be installed."""
    environment()
    from sim.libero.scene import episodes

    return episodes(settings)


def enter() -> None:
    """Become the same process in the environment that has LIBERO; stay this one where it cannot be installed."""
    if importlib.util.find_spec("libero") is None:
        try:
            os.execve(sys.executable, sys.orig_argv, os.environ | environment())
        except SimulationError:
            return  # the first request is told why


if __name__ == "__main__":
    enter()
    warnings.filterwarnings("ignore", category=SyntaxWarning, module="robosuite")
    logging.disable(logging.WARNING)  # robosuite's advice on macro files
    serve(start)
