"""A LIBERO worker: `python -m sim.libero.worker <fd>`, which goes on in an environment of `sim.libero.library`."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sim.libero.env import Settings
from sim.libero.library import environment
from sim.vec_env import SimulationError
from sim.workers.serve import serve

if TYPE_CHECKING:
    from sim.workers.episodes import Episodes


ENTERED = "VLA_RL_LIBERO"
"""Environment variable of a process that has LIBERO's environment."""


def start(failure: str, settings: Settings) -> Episodes:
    """Import the simulator, which takes a quarter of a minute. Raises `SimulationError` where it is not as it was installed."""
    if failure:
        raise SimulationError(failure)
    try:
        from sim.libero.scene import episodes
    except ModuleNotFoundError as error:
        folder = Path(os.environ["LIBERO_CONFIG_PATH"]).parent
        raise SimulationError(f"LIBERO lacks package '{error.name}': delete {folder}, and it will be installed again") from error
    return episodes(settings)


def enter() -> str:
    """Become the same process in the environment that has LIBERO. Returns why that cannot be, empty if it has happened."""
    if ENTERED in os.environ:
        return ""
    try:
        os.execve(sys.executable, sys.orig_argv, os.environ | environment() | {ENTERED: "1"})
    except SimulationError as error:
        return str(error)


if __name__ == "__main__":
    failure = enter()
    warnings.filterwarnings("ignore", category=SyntaxWarning, module="robosuite")
    logging.disable(logging.WARNING)  # robosuite's advice on macro files
    serve(partial(start, failure))
