"""The G1 as an Isaac Lab environment whose policy moves all 29 joints: nothing else keeps it on its feet.

    isaaclab train --rl_library rsl_rl --external_callback sim.isaaclab.rl.register --task VlaRl-Hands-WholeBody-v0 --num_envs 4096

For GPUs: thousands of environments, hundreds of millions of samples. On a CPU add `--device cpu agent.device=cpu` and take few.
The task is `hands`, pushed like there: be at both spots for as long as the episode lasts.

N environments · J = 29 joints, legs and waist first
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from isaaclab.envs import DirectRLEnv, DirectRLEnvCfg
from isaaclab.scene import InteractiveSceneCfg
from isaaclab.sim import SimulationCfg
from isaaclab.utils import configclass
from isaaclab.utils.math import quat_apply, quat_apply_inverse

from sim.humanoid import stance
from sim.humanoid.body import ARMS_HOME, FALLEN_M, UPRIGHT
from sim.humanoid.env import JOINT_RANGE, TASKS
from sim.humanoid.g1 import ARM_JOINTS, BODY_JOINTS, CONTROL_HZ, CONTROL_STEPS
from sim.humanoid.hands import CLOSE, SPOTS, SPREAD
from sim.humanoid.model import HAND_POINT, HANDS, TORSO
from sim.humanoid.pushes import FORCE_N, LASTS_S, PERIOD_S
from sim.isaaclab.humanoid_scene import JOINTS, scene_cfg
from sim.isaaclab.scene import simulation
from sim.isaaclab.standing import StandingClones
from sim.tasks.task import near

LEG_RANGE = 0.5
"""How far legs and waist are told off their stance at action 1 [rad]; arms off home: `JOINT_RANGE`."""
FALLEN_COST = 5.0
"""Taken from the reward when the robot falls, which ends the episode."""
PERIOD, LASTS = round(PERIOD_S * CONTROL_HZ), round(LASTS_S * CONTROL_HZ)
"""Of pushes [control steps]."""


@configclass
class WholeBodyEnvCfg(DirectRLEnvCfg):
    """What the policy sees: tilt and turning of the pelvis, joints, their speeds, the last action, the hands and the way to their spots."""

    decimation: int = CONTROL_STEPS
    episode_length_s: float = TASKS["hands"] / CONTROL_HZ
    action_space: int = len(JOINTS)
    observation_space: int = 3 + 3 + 3 * len(JOINTS) + 6 + 6
    state_space: int = 0
    sim: SimulationCfg = SimulationCfg()
    scene: InteractiveSceneCfg = InteractiveSceneCfg(num_envs=16, env_spacing=0.0)


def whole_body_cfg(num_envs: int = 16, device: str = "cpu") -> WholeBodyEnvCfg:
    """The configuration, for N environments."""
    cfg = WholeBodyEnvCfg()
    cfg.sim = simulation(device, graph=True)
    cfg.sim.render_interval = CONTROL_STEPS
    cfg.scene = scene_cfg(num_envs)
    return cfg


@dataclass(frozen=True)
class Seen:
    """The robots after a step, with their goals and what they were told."""

    down: torch.Tensor
    """`(N, 3)` unit vector of gravity in the pelvis' frame."""
    rate: torch.Tensor
    """`(N, 3)` angular velocity of the pelvis in its frame [rad/s]."""
    height: torch.Tensor
    """`(N,)` of the pelvis [m]."""
    joints: torch.Tensor
    """`(N, J)` off the stance [rad]."""
    speeds: torch.Tensor
    """`(N, J)` [rad/s]."""
    hands: torch.Tensor
    """`(N, 2, 3)` in the pelvis' frame [m]."""
    goal: torch.Tensor
    """`(N, 2, 3)` likewise."""
    action: torch.Tensor
    """`(N, J)`"""
    last: torch.Tensor
    """`(N, J)` the action before."""

    @property
    def distances(self) -> torch.Tensor:
        """`(N, 2)` of the hands from their spots [m]."""
        return (self.hands - self.goal).norm(dim=2)

    @property
    def standing(self) -> torch.Tensor:
        """`(N,)` bool: has not fallen."""
        return (self.height > FALLEN_M) & (-self.down[:, 2] > UPRIGHT)


REWARDS: dict[str, tuple[float, Callable[[Seen], torch.Tensor]]] = {
    "reach": (2.0, lambda seen: near(seen.distances, 0.2).mean(1)),
    "upright": (1.0, lambda seen: -seen.down[:, 2]),
    "stance": (-1.0, lambda seen: seen.joints[:, : len(BODY_JOINTS)].square().mean(1)),
    "still": (-0.01, lambda seen: seen.speeds.square().mean(1)),
    "smooth": (-0.1, lambda seen: (seen.action - seen.last).square().mean(1)),
}
"""Weight per second, and term `(N,)`."""


class WholeBodyEnv(DirectRLEnv):
    """`hands` with the whole body. Observations `(N, 105)`."""

    cfg: WholeBodyEnvCfg

    def __init__(self, cfg: WholeBodyEnvCfg, render_mode: str | None = None, **settings: Any) -> None:
        """As Isaac Lab wants it; `cfg` from `whole_body_cfg`."""
        super().__init__(cfg, render_mode, **settings)
        self._robot, self._clones = self.scene["robot"], StandingClones(self.sim, self.scene)
        self._hands = [self._robot.body_names.index(name) for name in HANDS]
        self._torso = [self._robot.body_names.index(TORSO)]
        self._rng = np.random.default_rng(cfg.seed)
        self._stance = self._tensor(np.concatenate([stance.STANDING, ARMS_HOME]))
        self._range = self._tensor(np.repeat([LEG_RANGE, JOINT_RANGE], [len(BODY_JOINTS), len(ARM_JOINTS)]))
        self._limits = self._robot.data.joint_pos_limits.torch[0].clone()
        pairs = [(left, (right[0], -right[1], right[2])) for left, right in product(SPOTS.values(), repeat=2)]
        self._goals = self._tensor(np.array(pairs))
        self._goal = self._goals[[0] * self.num_envs]
        self._action = torch.zeros(self.num_envs, len(JOINTS), device=self.device)
        self._last = self._action.clone()
        self._push_at = torch.zeros(self.num_envs, dtype=torch.long, device=self.device)
        self._push = torch.zeros(self.num_envs, 3, device=self.device)
        self._seen = self._look()

    def _pre_physics_step(self, actions: torch.Tensor) -> None:
        self._last, self._action = self._action, actions.clamp(-1, 1)
        self._draw_pushes()
        phase = self.episode_length_buf % PERIOD
        on = (phase >= self._push_at) & (phase < self._push_at + LASTS)
        forces = (self._push * on[:, None])[:, None]
        self._robot.permanent_wrench_composer.set_forces_and_torques_index(forces=forces, body_ids=self._torso, is_global=True)

    def _apply_action(self) -> None:
        targets = (self._stance + self._range * self._action).clamp(self._limits[:, 0], self._limits[:, 1])
        self._robot.actuators.target_command.set_position_index(value=targets)

    def _get_observations(self) -> dict[str, torch.Tensor]:
        seen = self._look()
        parts = [seen.down, seen.rate, seen.joints, seen.speeds, seen.action, seen.hands, seen.goal - seen.hands]
        return {"policy": torch.cat([part.flatten(1) for part in parts], 1)}

    def _get_dones(self) -> tuple[torch.Tensor, torch.Tensor]:
        broken = self._clones.broken()
        if broken.any():
            rows = broken.nonzero()[:, 0].tolist()
            print(f"warning: the physics diverged in environments {rows}; they start anew")
            self._clones.stand(rows, np.zeros((len(rows), len(ARM_JOINTS))), self._arm_limits)
        self._seen = self._look()
        fallen = ~self._seen.standing
        there = (self._seen.distances.amax(1) < CLOSE) & ~fallen
        ended, cut = fallen & ~broken, broken | (self.episode_length_buf >= self.max_episode_length)
        self.extras["log"] = {name: value[ended | cut].float() for name, value in {"success": there, "fallen": fallen}.items()}
        return ended, cut

    def _get_rewards(self) -> torch.Tensor:
        terms = [weight * term(self._seen) for weight, term in REWARDS.values()]
        return torch.stack(terms).sum(0) / CONTROL_HZ - FALLEN_COST * self.reset_terminated

    def _reset_idx(self, env_ids: Sequence[int]) -> None:
        super()._reset_idx(env_ids)
        rows = torch.as_tensor(env_ids).tolist()
        self._clones.stand(rows, self._rng.uniform(-SPREAD, SPREAD, (len(rows), len(ARM_JOINTS))), self._arm_limits)
        self._goal[rows] = self._goals[self._rng.integers(len(self._goals), size=len(rows))]
        self._action[rows] = self._last[rows] = 0.0
        self._push[rows] = 0.0

    @property
    def _arm_limits(self) -> np.ndarray:
        return self._limits[len(BODY_JOINTS) :].cpu().numpy()

    def _draw_pushes(self) -> None:
        """Where a period begins: when in it the robot is pushed, where to and how hard."""
        [rows] = (self.episode_length_buf % PERIOD == 0).nonzero(as_tuple=True)
        angle, force = self._rng.uniform(0, 2 * np.pi, len(rows)), self._rng.uniform(*FORCE_N, len(rows))
        self._push[rows] = self._tensor(np.stack([force * np.cos(angle), force * np.sin(angle), np.zeros(len(rows))], 1))
        self._push_at[rows] = torch.as_tensor(self._rng.integers(PERIOD - LASTS, size=len(rows)), device=self.device)

    def _look(self) -> Seen:
        data = self._robot.data
        pelvis, turn = data.root_link_pos_w.torch[:, None], data.root_link_quat_w.torch[:, None]
        points = data.body_link_pos_w.torch[:, self._hands] + quat_apply(
            data.body_link_quat_w.torch[:, self._hands], self._tensor(np.array(HAND_POINT))
        )
        return Seen(
            down=data.projected_gravity_b.torch.clone(),
            rate=data.root_link_ang_vel_b.torch.clone(),
            height=data.root_link_pos_w.torch[:, 2].clone(),
            joints=data.joint_pos.torch - self._stance,
            speeds=data.joint_vel.torch.clone(),
            hands=quat_apply_inverse(turn, points - pelvis),
            goal=self._goal,
            action=self._action,
            last=self._last,
        )

    def _tensor(self, values: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(values, dtype=torch.float32, device=self.device)
