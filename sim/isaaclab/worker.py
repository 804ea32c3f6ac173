"""An Isaac Lab worker: `python -m sim.isaaclab.worker <fd>`."""

from __future__ import annotations

from contextlib import redirect_stdout
from io import StringIO
from typing import TYPE_CHECKING

from sim.isaaclab.settings import IsaacSettings
from sim.workers.serve import serve

if TYPE_CHECKING:
    from sim.episodes import Episodes


def start(settings: IsaacSettings) -> Episodes:
    """Import the simulator and clone the scene."""
    import logging
    import warnings

    warnings.filterwarnings("ignore", module=r"isaaclab|newton|warp")  # of the libraries, about themselves
    logging.disable(logging.WARNING)
    with redirect_stdout(StringIO()):  # a report of every part's start
        import warp

        warp.config.quiet = True
        from sim.episodes import Episodes
        from sim.isaaclab.launch import launch

        return Episodes(settings.episodes, launch(settings))


if __name__ == "__main__":
    serve(start, extra="isaac")
