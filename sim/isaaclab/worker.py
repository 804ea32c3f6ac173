"""An Isaac Lab worker: `python -m sim.isaaclab.worker <fd>`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from typing import TYPE_CHECKING

from sim.isaaclab.settings import IsaacSettings
from sim.workers.serve import serve

if TYPE_CHECKING:
    from sim.episodes import Episodes


@contextmanager
def quietly() -> Iterator[None]:
    """Around the start of the simulator: without the libraries' reports of every part's start and warnings about themselves."""
    import logging
    import warnings

    warnings.filterwarnings("ignore", module=r"isaaclab|newton|warp")
    logging.disable(logging.WARNING)
    with redirect_stdout(StringIO()):
        import warp

        warp.config.log_level = warp.LOG_ERROR  # that there is no GPU is said by whoever asks for one
        yield


def start(settings: IsaacSettings) -> Episodes:
    """Import the simulator and clone the scene."""
    with quietly():
        from sim.episodes import Episodes
        from sim.isaaclab.launch import launch

        return Episodes(settings.episodes, launch(settings))


if __name__ == "__main__":
    serve(start, extra="isaac")
