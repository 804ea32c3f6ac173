"""N clones of one scene, which Isaac Lab always steps together.

An environment that a call leaves out is frozen: its state is put aside before the others step, and put back when it is
asked for. N environments
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import warp as wp
from isaaclab.scene import InteractiveScene
from isaaclab.sim import SimulationContext
from isaaclab_newton.physics.newton_manager import NewtonManager
from newton.solvers import SolverMuJoCo


@dataclass(frozen=True)
class Snapshot:
    """Everything that stepping one environment depends on. Numpy, so that it can leave the process."""

    coordinates: np.ndarray
    velocities: np.ndarray
    anchors: np.ndarray
    """Where joints are fixed to their parents: fixtures stand elsewhere in every episode."""
    warm_start: np.ndarray
    """Of the constraint solver."""
    targets: np.ndarray
    """Of the robot's servos."""


class Clones:
    """The environments of a running simulation whose scene holds an articulation `robot`."""

    def __init__(self, sim: SimulationContext, interactive: InteractiveScene, env_ids: Sequence[int] | None = None) -> None:
        """Wrap a simulation that was reset; `env_ids` are the names of its N environments, by default 0 … N - 1."""
        self._sim, self._interactive = sim, interactive
        self._arm = interactive["robot"]
        self._origins = interactive.env_origins
        self._frozen: dict[int, Snapshot] = {}
        self._started: set[int] = set()
        self._row = {env: row for row, env in enumerate(range(self.num_envs) if env_ids is None else env_ids)}

    @property
    def num_envs(self) -> int:
        """N."""
        return self._interactive.num_envs

    def changed(self) -> None:
        """Told whenever the simulation went on or states were put into it."""

    def broken(self) -> torch.Tensor:
        """`(N,)` bool: whose numbers are not finite."""
        arrays = self._arrays()
        return ~(arrays["coordinates"].isfinite().all(1) & arrays["velocities"].isfinite().all(1))

    def close(self) -> None:
        """Nothing outlives the process."""

    def _begin(self, rows: Sequence[int]) -> None:
        """After states were written to the simulation: episodes start from them."""
        warm_start = self._arrays()["warm_start"].clone()
        warm_start[list(rows)] = 0
        self._locate(warm_start)
        self._started.update(rows)
        for env in rows:
            self._frozen.pop(env, None)

    def _snapshots(self, rows: Sequence[int]) -> list[Snapshot]:
        """Of environments, frozen or not."""
        moving = [env for env in rows if env not in self._frozen]
        saved = dict(zip(moving, self._rows(moving), strict=True))
        return [saved[env] if env in saved else self._frozen[env] for env in rows]

    def _put_aside(self, rows: Sequence[int], saved: Sequence[Snapshot]) -> None:
        """Freeze environments in saved states."""
        self._started.update(rows)
        self._frozen.update(zip(rows, saved, strict=True))

    def _only(self, rows: Sequence[int]) -> None:
        """Before a step: thaw the environments that it is about, and freeze all others."""
        self._thaw(rows)
        left_out = [env for env in sorted(self._started.difference(rows)) if env not in self._frozen]
        self._frozen.update(zip(left_out, self._rows(left_out), strict=True))

    def _thaw(self, env_ids: Sequence[int]) -> None:
        """Put frozen environments back into the simulation."""
        rows = [env for env in env_ids if env in self._frozen]
        if not rows:
            return
        snapshots = [self._frozen.pop(env) for env in rows]
        self._anchors_change(rows)
        NewtonManager.invalidate_fk()
        arrays = self._arrays()
        for name, array in arrays.items():
            array[rows] = self._tensor(np.stack([getattr(snapshot, name) for snapshot in snapshots]))
        self._locate(arrays["warm_start"].clone())

    def _anchors_change(self, rows: Sequence[int]) -> None:
        """Tell the solver that anchors are about to change, where a scene has any that do."""

    def _locate(self, warm_start: torch.Tensor) -> None:
        """Bring poses up to date with the coordinates, which clears the solver's warm starts, and put those back."""
        self._sim.forward()
        self._arrays()["warm_start"].copy_(warm_start)
        self._interactive.update(0.0)
        self.changed()

    def _rows(self, env_ids: Sequence[int]) -> list[Snapshot]:
        rows = {name: array[list(env_ids)].cpu().numpy() for name, array in self._arrays().items()}
        return [Snapshot(**{name: row[i] for name, row in rows.items()}) for i in range(len(env_ids))]

    def _arrays(self) -> Mapping[str, torch.Tensor]:
        """The simulator's own memory, one row per environment: what is written there is simulated."""
        n, solver = self.num_envs, NewtonManager._solver
        state, model = NewtonManager.get_state_0(), NewtonManager.get_model()
        assert isinstance(solver, SolverMuJoCo) and state.joint_q and state.joint_qd and model.joint_X_p
        return {
            "coordinates": wp.to_torch(state.joint_q).view(n, -1),
            "velocities": wp.to_torch(state.joint_qd).view(n, -1),
            "anchors": wp.to_torch(model.joint_X_p).view(n, -1),
            "warm_start": wp.to_torch(solver.mjw_data.qacc_warmstart),
            "targets": self._arm.actuators.target_command.position.torch,
        }

    def _local(self, env_ids: Sequence[int]) -> list[int]:
        return [self._row[env] for env in env_ids]

    def _ids(self, env_ids: Sequence[int]) -> torch.Tensor:
        return torch.tensor(list(env_ids), dtype=torch.int32, device=self._origins.device)

    def _tensor(self, values: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(values, dtype=torch.float32, device=self._origins.device)
