"""Newton's physics step as one recorded graph on a CPU, where Isaac Lab itself records graphs on CUDA only.

Recording replays about 120 kernel launches per physics step without Python. It overrides private methods of Isaac Lab, so
it is used only with the versions it was checked with; `tests/sim/test_isaaclab_env.py` holds it against the eager step.
"""

from __future__ import annotations

from importlib.metadata import version

import warp as wp
from isaaclab_newton.physics.mjwarp_manager import NewtonMJWarpManager

from sim.vec_env import SimulationError

CHECKED = {"isaaclab": "3.0.0", "newton": "1.6.1", "warp-lang": "1.17.0"}
"""Versions that the recorded step was compared with the eager one on."""
EAGER_STEPS = 2
"""Run so many steps before recording, so that everything is allocated."""


def require_checked_versions() -> None:
    """Raise `SimulationError` where the recorded step has not been compared with the eager one."""
    found = {package: version(package) for package in CHECKED}
    if found != CHECKED:
        raise SimulationError(
            f"graph capture on the CPU is checked for {CHECKED}, this environment has {found}; use graph=False (several times slower)"
        )


class NewtonCpuGraphManager(NewtonMJWarpManager):
    """Records the whole control step the third time it runs, then replays it. The name must start with Newton."""

    _recorded: wp.Graph | None = None
    _eager_steps = 0

    @classmethod
    def _invalidate_graph(cls) -> None:
        super()._invalidate_graph()
        NewtonCpuGraphManager._recorded = None
        NewtonCpuGraphManager._eager_steps = 0

    @classmethod
    def _is_all_graphable(cls) -> bool:
        """Whether a whole control step can be recorded: yes, as implicit actuators hold their targets within it."""
        return cls._adapter is None or super()._is_all_graphable()

    @classmethod
    def _simulate_full(cls) -> None:
        if cls._recorded is not None:
            wp.capture_launch(cls._recorded)
            return
        if cls._eager_steps < EAGER_STEPS:
            NewtonCpuGraphManager._eager_steps += 1
            super()._simulate_full()
            return
        with wp.ScopedCapture(device="cpu") as capture:
            super()._simulate_full()
        assert capture.graph is not None
        NewtonCpuGraphManager._recorded = capture.graph
        wp.capture_launch(capture.graph)
