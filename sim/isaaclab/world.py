"""The physics of N cloned tabletop environments in Isaac Lab: start, command, step, state, snapshots, images.

What `sim.mujoco.physics.Physics` is for one environment. N environments · n those of a call · J arm joints
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

from sim.control import Command
from sim.robots import Robot
from sim.scene import CONTROL_HZ, CONTROL_STEPS, Scene
from sim.state import SceneState
from sim.tasks.task import Start


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


class World:
    """The tabletop scenes of a running Isaac Lab simulation. Positions are relative to each environment's robot base."""

    def __init__(self, sim: SimulationContext, interactive: InteractiveScene, scene: Scene, robot: Robot) -> None:
        self._sim, self._scene, self._robot = sim, interactive, robot
        self._arm = interactive["robot"]
        self._joints = [self._arm.joint_names.index(name) for name in robot.joints]
        self._fingers = [self._arm.joint_names.index(name) for name in robot.fingers]
        self._hand = self._arm.body_names.index(robot.hand)
        self._bodies = [interactive[body.name] for body in scene.bodies]
        self._fixtures = [interactive[fixture.name] for fixture in scene.fixtures]
        self._origins = interactive.env_origins
        self.limits = self._arm.data.joint_pos_limits.torch[0, self._joints].clone()
        """`(J, 2)` range of each arm joint [rad]."""
        sim.physics_manager.set_decimation(CONTROL_STEPS)

    @property
    def num_envs(self) -> int:
        """N."""
        return self._scene.num_envs

    def start(self, env_ids: Sequence[int], starts: Sequence[Start]) -> None:
        """Put environments where episodes start."""
        ids = self._ids(env_ids)
        offset = self._tensor(np.stack([start.joint_offset for start in starts]))
        joints = (self._tensor(np.array(self._robot.home)) + offset).clamp(self.limits[:, 0], self.limits[:, 1])
        position = torch.zeros(len(starts), len(self._arm.joint_names), device=joints.device)
        position[:, self._joints], position[:, self._fingers] = joints, self._robot.finger_travel
        self._arm.write_joint_position_to_sim_index(position=position, env_ids=ids)
        self._arm.write_joint_velocity_to_sim_index(velocity=torch.zeros_like(position), env_ids=ids)
        self._arm.actuators.target_command.set_position_index(value=position, env_ids=ids)
        for i, body in enumerate(self._bodies):
            pose = self._poses(env_ids, [start.body_pos[i] for start in starts], [start.body_yaw[i] for start in starts])
            body.write_root_pose_to_sim_index(root_pose=pose, env_ids=ids)
            body.write_root_velocity_to_sim_index(root_velocity=torch.zeros_like(pose[:, :6]), env_ids=ids)
        for i, fixture in enumerate(self._fixtures):
            pose = self._poses(env_ids, [start.fixture_pos[i] for start in starts], [0.0] * len(starts))
            fixture.write_root_pose_to_sim_index(root_pose=pose, env_ids=ids)
            opened = self._tensor(np.array([[start.fixture[i]] for start in starts]))
            fixture.write_joint_position_to_sim_index(position=opened, env_ids=ids)
            fixture.write_joint_velocity_to_sim_index(velocity=torch.zeros_like(opened), env_ids=ids)
        self._sim.forward()

    def command(self, command: Command) -> None:
        """Set the servos' targets of all N environments."""
        target = torch.empty(self.num_envs, len(self._arm.joint_names), device=command.joints.device)
        target[:, self._joints] = command.joints
        target[:, self._fingers] = command.opening[:, None] * self._robot.finger_travel
        self._arm.actuators.target_command.set_position_index(value=target)

    def step(self) -> None:
        """One control step of all N environments."""
        self._scene.write_data_to_sim()
        calls = 1 if self._sim.physics_manager.handles_decimation() else CONTROL_STEPS
        for _ in range(calls):
            self._sim.step(render=False)
        self._scene.update(1 / CONTROL_HZ)

    def state(self) -> SceneState:
        """The state of all N environments."""
        data, origin = self._arm.data, self._origins
        rotation = data.body_link_quat_w.torch[:, self._hand].roll(1, -1)  # x, y, z, w → w, x, y, z
        arm = data.body_link_pos_w.torch[:, self._hand] - origin
        lever = rotated(rotation, self._tensor(np.array(self._robot.tcp)).expand_as(arm))
        jacobian = data.body_link_jacobian_w.torch[:, self._hand - 1][..., self._joints].clone()  # a fixed base has no row
        jacobian[:, :3] += torch.cross(jacobian[:, 3:].mT, lever[:, None].expand(-1, len(self._joints), -1), dim=-1).mT
        bodies = [body.data.root_link_pose_w.torch for body in self._bodies]
        poses = torch.stack(bodies, 1) if bodies else torch.zeros(self.num_envs, 0, 7, device=origin.device)
        speeds = [body.data.root_com_lin_vel_w.torch for body in self._bodies]
        fixed = [fixture.data.root_link_pos_w.torch - origin for fixture in self._fixtures]
        return SceneState(
            joint_pos=data.joint_pos.torch[:, self._joints].clone(),
            joint_vel=data.joint_vel.torch[:, self._joints].clone(),
            opening=data.joint_pos.torch[:, self._fingers].mean(1) / self._robot.finger_travel,
            tcp_pos=arm + lever,
            tcp_quat=rotation,
            jacobian=jacobian,
            body_pos=poses[..., :3] - origin[:, None],
            body_quat=poses[..., 3:].roll(1, -1),
            body_vel=torch.stack(speeds, 1) if speeds else poses[..., :3],
            fixture_pos=torch.stack(fixed, 1) if fixed else torch.zeros(self.num_envs, 0, 3, device=origin.device),
            fixture=torch.cat([f.data.joint_pos.torch for f in self._fixtures], 1) if fixed else poses.new_zeros(self.num_envs, 0),
        )

    def images(self) -> torch.Tensor:
        """What the cameras of all N environments see, `(N, H, W, 3)` uint8."""
        camera = self._scene["camera"]
        camera.update(0.0, force_recompute=True)
        return camera.data.output["rgb"].torch

    def save(self, env_ids: Sequence[int]) -> list[Snapshot]:
        """The whole state of environments."""
        rows = {name: array[list(env_ids)].cpu().numpy() for name, array in self._arrays().items()}
        return [Snapshot(**{name: row[i] for name, row in rows.items()}) for i in range(len(env_ids))]

    def load(self, env_ids: Sequence[int], snapshots: Sequence[Snapshot]) -> None:
        """Put environments back into saved states, of any environment; stepping on is then bit-identical."""
        for fixture in self._fixtures:  # tells the solver that anchors change
            fixture.write_root_pose_to_sim_index(
                root_pose=fixture.data.root_link_pose_w.torch[self._ids(env_ids)], env_ids=self._ids(env_ids)
            )
        NewtonManager.invalidate_fk()
        saved = {name: self._tensor(np.stack([getattr(s, name) for s in snapshots])) for name in Snapshot.__dataclass_fields__}
        arrays, rows = self._arrays(), list(env_ids)
        others = arrays["warm_start"].clone()
        for name, array in arrays.items():
            array[rows] = saved[name]
        self._sim.forward()  # clears warm starts, of all environments
        arrays["warm_start"].copy_(others)
        arrays["warm_start"][rows] = saved["warm_start"]
        self._scene.update(0.0)

    def _arrays(self) -> Mapping[str, torch.Tensor]:
        """The simulator's own memory, one row per environment, so that what is written there is simulated."""
        state, model = NewtonManager.get_state_0(), NewtonManager.get_model()
        solver = NewtonManager._solver.mjw_data
        n = self.num_envs
        return {
            "coordinates": wp.to_torch(state.joint_q).view(n, -1),
            "velocities": wp.to_torch(state.joint_qd).view(n, -1),
            "anchors": wp.to_torch(model.joint_X_p).view(n, -1),
            "warm_start": wp.to_torch(solver.qacc_warmstart),
            "targets": self._arm.actuators.target_command.position.torch,
        }

    def _poses(self, env_ids: Sequence[int], positions: Sequence[np.ndarray], yaws: Sequence[float]) -> torch.Tensor:
        """World poses `(n, 7)`: position, then quaternion x, y, z, w, as Isaac Lab takes them."""
        half = self._tensor(np.asarray(yaws)) / 2
        zero = torch.zeros_like(half)
        places = self._tensor(np.stack(positions)) + self._origins[list(env_ids)]
        return torch.cat([places, torch.stack([zero, zero, half.sin(), half.cos()], 1)], 1)

    def _ids(self, env_ids: Sequence[int]) -> torch.Tensor:
        return torch.tensor(list(env_ids), dtype=torch.int32, device=self._origins.device)

    def _tensor(self, values: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(values, dtype=torch.float32, device=self._origins.device)


def rotated(quat: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
    """Vectors `(N, 3)` turned by quaternions w, x, y, z `(N, 4)`."""
    axis = quat[:, 1:]
    twist = 2 * torch.cross(axis, vector, dim=1)
    return vector + quat[:, :1] * twist + torch.cross(axis, twist, dim=1)
