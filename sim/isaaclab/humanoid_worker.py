"""An Isaac Lab worker of the humanoid: `python -m sim.isaaclab.humanoid_worker <fd>`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.humanoid.env import CloneSettings
from sim.isaaclab.worker import quietly
from sim.workers.serve import serve

if TYPE_CHECKING:
    from sim.humanoid.episodes import Episodes


def start(settings: CloneSettings) -> Episodes:
    """Import the simulator and clone the robot."""
    with quietly():
        import torch

        from sim.humanoid.episodes import Episodes
        from sim.isaaclab.launch import launch_humanoid

        torch.set_num_threads(1)
        return Episodes(settings.episodes, launch_humanoid(settings))


if __name__ == "__main__":
    serve(start, extra="isaac")
