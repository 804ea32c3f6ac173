"""A worker of the humanoid: `python -m sim.humanoid.worker <fd>`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.humanoid.env import Settings
from sim.workers.serve import serve

if TYPE_CHECKING:
    from sim.humanoid.episodes import Episodes


def start(settings: Settings) -> Episodes:
    """Import the simulator."""
    from sim.humanoid.body import Bodies
    from sim.humanoid.episodes import Episodes

    return Episodes(settings, Bodies())


if __name__ == "__main__":
    serve(start)
