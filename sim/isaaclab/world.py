"""The physics of N cloned tabletop environments in Isaac Lab, which always step together.

An environment that a call leaves out is frozen: its state is put aside before the others step, and put back when it is
asked for. N environments · n those of a call · J arm joints
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

from sim.control import Command
from sim.robots import Robot
from sim.scene import CONTROL_HZ, CONTROL_STEPS, Scene
from sim.state import SceneState
from sim.tasks.task import Start
from sim.vec_env import SimulationError


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


class IsaacWorld:
    """The tabletop scenes of a running Isaac Lab simulation, behind `sim.episodes.World`."""

    def __init__(
        self,
        sim: SimulationContext,
        interactive: InteractiveScene,
        scene: Scene,
        robot: Robot,
        env_ids: Sequence[int] | None = None,
        steps_at_once: int = CONTROL_STEPS,
    ) -> None:
        """Wrap a simulation of `scene` that was reset.

        Args:
            sim: the simulation.
            interactive: the clones.
            scene: what was cloned.
            robot: which is in front of it.
            env_ids: names of the N environments, by default 0 … N - 1.
            steps_at_once: physics steps that are simulated, and recorded, in one go.
        """
        self._sim, self._interactive, self._scene, self._robot = sim, interactive, scene, robot
        self._arm = interactive["robot"]
        self._joints = [self._arm.joint_names.index(name) for name in robot.joints]
        self._fingers = [self._arm.joint_names.index(name) for name in robot.fingers]
        self._hand = self._arm.body_names.index(robot.hand)
        self._bodies = [interactive[body.name] for body in scene.bodies]
        self._fixtures = [interactive[fixture.name] for fixture in scene.fixtures]
        self._origins = interactive.env_origins
        self._frozen: dict[int, Snapshot] = {}
        self._started: set[int] = set()
        self._seen: SceneState | None = None
        self._drawn: np.ndarray | None = None
        self.limits = self._arm.data.joint_pos_limits.torch[0, self._joints].clone()
        """`(J, 2)` range of each arm joint [rad]."""
        self._row = {env: row for row, env in enumerate(range(self.num_envs) if env_ids is None else env_ids)}
        self._steps_at_once = steps_at_once
        sim.physics_manager.set_decimation(steps_at_once)

    @property
    def num_envs(self) -> int:
        """N."""
        return self._interactive.num_envs

    def start(self, env_ids: Sequence[int], scene: Scene, starts: Sequence[Start]) -> None:
        """As `sim.episodes.World`. Raises `SimulationError` for a scene other than the one that was cloned."""
        rows = self._local(env_ids)
        self._require(scene)
        ids = self._ids(rows)
        offset = self._tensor(np.stack([start.joint_offset[: len(self._joints)] for start in starts]))
        joints = (self._tensor(np.array(self._robot.home)) + offset).clamp(self.limits[:, 0], self.limits[:, 1])
        position = torch.zeros(len(starts), len(self._arm.joint_names), device=joints.device)
        position[:, self._joints], position[:, self._fingers] = joints, self._robot.finger_travel
        self._arm.write_joint_position_to_sim_index(position=position, env_ids=ids)
        self._arm.write_joint_velocity_to_sim_index(velocity=torch.zeros_like(position), env_ids=ids)
        self._arm.actuators.target_command.set_position_index(value=position, env_ids=ids)
        for i, body in enumerate(self._bodies):
            pose = self._poses(rows, [start.body_pos[i] for start in starts], [start.body_yaw[i] for start in starts])
            body.write_root_pose_to_sim_index(root_pose=pose, env_ids=ids)
            body.write_root_velocity_to_sim_index(root_velocity=torch.zeros_like(pose[:, :6]), env_ids=ids)
        for i, fixture in enumerate(self._fixtures):
            pose = self._poses(rows, [start.fixture_pos[i] for start in starts], [0.0] * len(starts))
            fixture.write_root_pose_to_sim_index(root_pose=pose, env_ids=ids)
            opened = self._tensor(np.array([[start.fixture[i]] for start in starts]))
            fixture.write_joint_position_to_sim_index(position=opened, env_ids=ids)
            fixture.write_joint_velocity_to_sim_index(velocity=torch.zeros_like(opened), env_ids=ids)
        warm_start = self._arrays()["warm_start"].clone()
        warm_start[rows] = 0
        self._locate(warm_start)
        self._started.update(rows)
        for env in rows:
            self._frozen.pop(env, None)

    def step(self, env_ids: Sequence[int], command: Command) -> list[str]:
        """As `sim.episodes.World`. All N environments step; those left out are frozen."""
        rows = self._local(env_ids)
        self._set_apart(rows)
        self._aim(rows, command.joints, command.opening)
        self._advance(CONTROL_STEPS)
        return self._stepped(rows)

    def command(self, env_ids: Sequence[int], command: Command) -> None:
        """Set the servos' targets, without stepping; Isaac Lab's own environments send them on."""
        self._set_targets(self._local(env_ids), command.joints, command.opening)

    def changed(self) -> None:
        """Forget what was read and drawn, because the simulation went on."""
        self._seen = self._drawn = None

    def broken(self) -> torch.Tensor:
        """`(N,)` bool: whose numbers are not finite."""
        arrays = self._arrays()
        return ~(arrays["coordinates"].isfinite().all(1) & arrays["velocities"].isfinite().all(1))

    def state(self, env_ids: Sequence[int]) -> SceneState:
        """As `sim.episodes.World`."""
        rows = self._local(env_ids)
        self._thaw(rows)
        if self._seen is None:
            self._seen = self._read()
        return self._seen[torch.tensor(rows, device=self._origins.device)]

    def images(self, env_ids: Sequence[int]) -> np.ndarray:
        """As `sim.episodes.World`."""
        rows = self._local(env_ids)
        self._thaw(rows)
        drawn = self._drawn
        if drawn is None:
            camera = self._interactive["camera"]
            camera.update(0.0, force_recompute=True)
            drawn = self._drawn = camera.data.output["rgb"].torch.cpu().numpy().copy()
        return drawn[rows]

    def save(self, env_ids: Sequence[int]) -> list[Snapshot]:
        """As `sim.episodes.World`."""
        rows = self._local(env_ids)
        moving = [env for env in rows if env not in self._frozen]
        saved = dict(zip(moving, self._rows(moving), strict=True))
        return [saved[env] if env in saved else self._frozen[env] for env in rows]

    def load(self, env_ids: Sequence[int], scene: Scene, saved: Sequence[Snapshot]) -> None:
        """As `sim.episodes.World`."""
        rows = self._local(env_ids)
        self._require(scene)
        self._started.update(rows)
        self._frozen.update(zip(rows, saved, strict=True))

    def close(self) -> None:
        """Nothing outlives the process."""

    def _set_apart(self, rows: Sequence[int]) -> None:
        """Before a step: put these back into the simulation, and the state of all others aside."""
        self._thaw(rows)
        left_out = [env for env in sorted(self._started.difference(rows)) if env not in self._frozen]
        self._frozen.update(zip(left_out, self._rows(left_out), strict=True))

    def _set_targets(self, rows: Sequence[int], joints: torch.Tensor, opening: torch.Tensor) -> None:
        target = torch.empty(len(rows), len(self._arm.joint_names), device=joints.device)
        target[:, self._joints] = joints
        target[:, self._fingers] = opening[:, None] * self._robot.finger_travel
        self._arm.actuators.target_command.set_position_index(value=target, env_ids=self._ids(rows))

    def _aim(self, rows: Sequence[int], joints: torch.Tensor, opening: torch.Tensor) -> None:
        """Give servos their targets: arm joints `(n, J)` [rad] and the gripper's opening `(n,)`."""
        self._set_targets(rows, joints, opening)
        self._interactive.write_data_to_sim()

    def _advance(self, steps: int) -> None:
        """Some physics steps of all N environments."""
        for _ in range(steps // (self._steps_at_once if self._sim.physics_manager.handles_decimation() else 1)):
            self._sim.step(render=False)

    def _stepped(self, rows: Sequence[int]) -> list[str]:
        """After a control step: read where everything is. Returns for each environment what went wrong."""
        self._interactive.update(1 / CONTROL_HZ)
        self.changed()
        return ["the physics diverged" if broken else "" for broken in self.broken()[list(rows)].tolist()]

    def _thaw(self, env_ids: Sequence[int]) -> None:
        """Put frozen environments back into the simulation."""
        rows = [env for env in env_ids if env in self._frozen]
        if not rows:
            return
        snapshots = [self._frozen.pop(env) for env in rows]
        for fixture in self._fixtures:  # tells the solver that anchors change
            fixture.write_root_pose_to_sim_index(root_pose=fixture.data.root_link_pose_w.torch[rows], env_ids=self._ids(rows))
        NewtonManager.invalidate_fk()
        arrays = self._arrays()
        for name, array in arrays.items():
            array[rows] = self._tensor(np.stack([getattr(snapshot, name) for snapshot in snapshots]))
        self._locate(arrays["warm_start"].clone())

    def _locate(self, warm_start: torch.Tensor) -> None:
        """Bring poses up to date with the coordinates, which clears the solver's warm starts, and put those back."""
        self._sim.forward()
        self._arrays()["warm_start"].copy_(warm_start)
        self._interactive.update(0.0)
        self.changed()

    def _read(self) -> SceneState:
        """The state of all N environments."""
        data, origin, n = self._arm.data, self._origins, self.num_envs
        rotation = data.body_link_quat_w.torch[:, self._hand].roll(1, -1)  # x, y, z, w → w, x, y, z
        hand = data.body_link_pos_w.torch[:, self._hand] - origin
        lever = rotated(rotation, self._tensor(np.array(self._robot.tcp)).expand_as(hand))
        jacobian = data.body_link_jacobian_w.torch[:, self._hand - 1][..., self._joints].clone()  # a fixed base has no row
        jacobian[:, :3] += torch.cross(jacobian[:, 3:].mT, lever[:, None].expand(-1, len(self._joints), -1), dim=-1).mT
        poses = torch.stack([body.data.root_link_pose_w.torch for body in self._bodies], 1)
        fixed = [fixture.data.root_link_pos_w.torch - origin for fixture in self._fixtures]
        return SceneState(
            joint_pos=data.joint_pos.torch[:, self._joints].clone(),
            joint_vel=data.joint_vel.torch[:, self._joints].clone(),
            opening=data.joint_pos.torch[:, self._fingers].mean(1) / self._robot.finger_travel,
            tcp_pos=hand + lever,
            tcp_quat=rotation,
            jacobian=jacobian,
            body_pos=poses[..., :3] - origin[:, None],
            body_quat=poses[..., 3:].roll(1, -1),
            body_vel=torch.stack([body.data.root_com_lin_vel_w.torch for body in self._bodies], 1),
            fixture_pos=torch.stack(fixed, 1) if fixed else origin.new_zeros(n, 0, 3),
            fixture=torch.cat([f.data.joint_pos.torch for f in self._fixtures], 1) if fixed else origin.new_zeros(n, 0),
        )

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

    def _poses(self, env_ids: Sequence[int], positions: Sequence[np.ndarray], yaws: Sequence[float]) -> torch.Tensor:
        """World poses `(n, 7)`: position, then quaternion x, y, z, w, as Isaac Lab takes them."""
        half = self._tensor(np.asarray(yaws)) / 2
        zero = torch.zeros_like(half)
        places = self._tensor(np.stack(positions)) + self._origins[list(env_ids)]
        return torch.cat([places, torch.stack([zero, zero, half.sin(), half.cos()], 1)], 1)

    def _local(self, env_ids: Sequence[int]) -> list[int]:
        return [self._row[env] for env in env_ids]

    def _ids(self, env_ids: Sequence[int]) -> torch.Tensor:
        return torch.tensor(list(env_ids), dtype=torch.int32, device=self._origins.device)

    def _tensor(self, values: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(values, dtype=torch.float32, device=self._origins.device)

    def _require(self, scene: Scene) -> None:
        if scene is not self._scene:
            raise SimulationError(f"this simulation holds the scene '{self._scene.name}', it cannot run one with '{scene.name}'")


def rotated(quat: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
    """Vectors `(N, 3)` turned by quaternions w, x, y, z `(N, 4)`."""
    axis = quat[:, 1:]
    twist = 2 * torch.cross(axis, vector, dim=1)
    return vector + quat[:, :1] * twist + torch.cross(axis, twist, dim=1)
