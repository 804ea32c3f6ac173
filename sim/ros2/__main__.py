"""`vla-rl sim-robot PROFILE [--task lift --seed 3 --clock lockstep ...]`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from policies.interface import UserError
from sim.ros2.config import SimRobotConfig
from sim.vec_env import SimulationError


def simulate(profile: Annotated[Path, tyro.conf.Positional], config: Annotated[SimRobotConfig, tyro.conf.arg(name="")]) -> None:
    """A simulated robot on the ROS 2 graph, until SIGINT or SIGTERM.

    Args:
        profile: the robot's profile, such as configs/robots/arm7.yaml.
        config: settings.
    """
    from sim.workers.process import software_gl

    os.environ.setdefault("MUJOCO_GL", software_gl())  # before MuJoCo is imported in this process
    from robot.profile import load_profile
    from sim.ros2.run import run
    from sim.ros2.wiring import wire

    run(wire(load_profile(profile), config.cameras), config)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 stopped when asked to, 2 bad input or failed physics."""
    try:
        tyro.cli(simulate, args=argv, prog="vla-rl sim-robot")
    except (UserError, SimulationError, ImportError) as error:
        print(f"sim robot: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
