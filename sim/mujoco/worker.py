"""A MuJoCo worker: `python -m sim.mujoco.worker <fd>`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.settings import Settings
from sim.workers.serve import serve

if TYPE_CHECKING:
    from sim.episodes import Episodes


def start(settings: Settings) -> Episodes:
    """Import the simulator, which also loads the OpenGL library."""
    from sim.episodes import Episodes
    from sim.mujoco.world import MujocoWorld

    return Episodes(settings, MujocoWorld(settings))


if __name__ == "__main__":
    serve(start)
