"""A Meta-World worker: `python -m sim.metaworld.worker <fd>`. It never imports torch."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from sim.metaworld.env import Settings
from sim.workers.serve import serve

if TYPE_CHECKING:
    from sim.workers.episodes import Episodes


def start(settings: Settings) -> Episodes:
    """Import the simulator, which also loads the OpenGL library."""
    from sim.metaworld.shown import episodes

    return episodes(settings)


if __name__ == "__main__":
    warnings.filterwarnings("ignore", message="Constant\\(s\\) may be too high")
    serve(start)
