"""The physics of N cloned tabletop environments in Isaac Lab.

N environments · n those of a call · J arm joints
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from isaaclab.scene import InteractiveScene
from isaaclab.sim import SimulationContext

from sim.camera import shrink
from sim.control import Command
from sim.isaaclab.clones import Clones, Snapshot
from sim.robots import Robot
from sim.scene import CONTROL_HZ, CONTROL_STEPS, Scene
from sim.state import SceneState
from sim.tasks.task import Start
from sim.vec_env import SimulationError


class IsaacWorld(Clones):
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
        super().__init__(sim, interactive, env_ids)
        self._scene, self._robot = scene, robot
        self._joints = [self._arm.joint_names.index(name) for name in robot.joints]
        self._fingers = [self._arm.joint_names.index(name) for name in robot.fingers]
        self._hand = self._arm.body_names.index(robot.hand)
        self._bodies = [interactive[body.name] for body in scene.bodies]
        self._fixtures = [interactive[fixture.name] for fixture in scene.fixtures]
        self._seen: SceneState | None = None
        self._drawn: np.ndarray | None = None
        self.limits = self._arm.data.joint_pos_limits.torch[0, self._joints].clone()
        """`(J, 2)` range of each arm joint [rad]."""
        self._steps_at_once = steps_at_once
        sim.physics_manager.set_decimation(steps_at_once)

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
        self._begin(rows)

    def step(self, env_ids: Sequence[int], command: Command) -> list[str]:
        """As `sim.episodes.World`. All N environments step; those left out are frozen."""
        rows = self._local(env_ids)
        self._only(rows)
        self._aim(rows, command.joints, command.opening)
        self._advance(CONTROL_STEPS)
        return self._stepped(rows)

    def command(self, env_ids: Sequence[int], command: Command) -> None:
        """Set the servos' targets, without stepping; Isaac Lab's own environments send them on."""
        self._set_targets(self._local(env_ids), command.joints, command.opening)

    def changed(self) -> None:
        """Forget what was read and drawn, because the simulation went on."""
        self._seen = self._drawn = None

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
            drawn = self._drawn = np.stack([shrink(image) for image in camera.data.output["rgb"].torch.cpu().numpy()])
        return drawn[rows]

    def save(self, env_ids: Sequence[int]) -> list[Snapshot]:
        """As `sim.episodes.World`."""
        return self._snapshots(self._local(env_ids))

    def load(self, env_ids: Sequence[int], scene: Scene, saved: Sequence[Snapshot]) -> None:
        """As `sim.episodes.World`."""
        rows = self._local(env_ids)
        self._require(scene)
        self._put_aside(rows, saved)

    def _anchors_change(self, rows: Sequence[int]) -> None:
        for fixture in self._fixtures:
            fixture.write_root_pose_to_sim_index(root_pose=fixture.data.root_link_pose_w.torch[list(rows)], env_ids=self._ids(rows))

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

    def _poses(self, env_ids: Sequence[int], positions: Sequence[np.ndarray], yaws: Sequence[float]) -> torch.Tensor:
        """World poses `(n, 7)`: position, then quaternion x, y, z, w, as Isaac Lab takes them."""
        half = self._tensor(np.asarray(yaws)) / 2
        zero = torch.zeros_like(half)
        places = self._tensor(np.stack(positions)) + self._origins[list(env_ids)]
        return torch.cat([places, torch.stack([zero, zero, half.sin(), half.cos()], 1)], 1)

    def _require(self, scene: Scene) -> None:
        if scene is not self._scene:
            raise SimulationError(f"this simulation holds the scene '{self._scene.name}', it cannot run one with '{scene.name}'")


def rotated(quat: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
    """Vectors `(N, 3)` turned by quaternions w, x, y, z `(N, 4)`."""
    axis = quat[:, 1:]
    twist = 2 * torch.cross(axis, vector, dim=1)
    return vector + quat[:, :1] * twist + torch.cross(axis, twist, dim=1)
