"""The tabletop tasks as Isaac Lab environments: privileged state in, actions out, for Isaac Lab's own training commands.

    isaaclab train --rl_library rsl_rl --external_callback sim.isaaclab.rl.register --task VlaRl-Reach-v0 --num_envs 256

On a CPU add `--device cpu agent.device=cpu`. Every task has two ids: `VlaRl-Reach-v0` acts in steps of the tool, `VlaRl-Reach-Joints-v0`
in steps of the joints. `python -m sim.isaaclab.expert` makes what was trained an expert, which demonstrates and teaches.
`VlaRl-Hands-WholeBody-v0` is the humanoid, see `sim.isaaclab.humanoid_rl`.

N environments · S numbers of the privileged state · A actions
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import gymnasium
import numpy as np
import torch
from isaaclab.envs import DirectRLEnv, DirectRLEnvCfg
from isaaclab.scene import InteractiveSceneCfg
from isaaclab.sim import SimulationCfg
from isaaclab.utils import configclass

from sim.control import Command, Kind, action_spec, follow, hold
from sim.isaaclab.scene import scene_cfg, simulation
from sim.isaaclab.world import IsaacWorld
from sim.privileged import privileged, privileged_sizes
from sim.robots import ROBOTS
from sim.scene import CONTROL_HZ, CONTROL_STEPS
from sim.state import Goal
from sim.tasks import TASKS
from sim.vec_env import SEED_RANGES

SUCCESS_BONUS = 10.0
"""Added to the dense reward in the step that solves the task, which ends the episode."""


@configclass
class TabletopEnvCfg(DirectRLEnvCfg):
    """One task of the suite. `task_cfg` makes it."""

    task: str = ""
    robot: str = "arm7"
    control: str = "ee_delta"
    decimation: int = CONTROL_STEPS
    episode_length_s: float = 3.0
    action_space: int = 5
    observation_space: int = 1
    state_space: int = 0
    sim: SimulationCfg = SimulationCfg()
    scene: InteractiveSceneCfg = InteractiveSceneCfg(num_envs=16, env_spacing=0.0)


def task_cfg(task: str, robot: str = "arm7", control: Kind = "ee_delta", num_envs: int = 16, device: str = "cpu") -> TabletopEnvCfg:
    """The configuration of a task, for N environments."""
    definition, arm = TASKS[task], ROBOTS[robot]
    cfg = TabletopEnvCfg()
    cfg.task, cfg.robot, cfg.control = task, robot, control
    cfg.episode_length_s = definition.horizon / CONTROL_HZ
    cfg.action_space = action_spec(arm, control).dim
    cfg.observation_space = privileged_sizes(robot)[task]
    cfg.sim = simulation(device, graph=True)
    cfg.scene = scene_cfg(definition.scene, arm, num_envs, camera=None, image_px=0)
    return cfg


class TabletopEnv(DirectRLEnv):
    """One task. Observations `(N, S)` are the privileged state; initial states are drawn from the training seeds."""

    cfg: TabletopEnvCfg

    def __init__(self, cfg: TabletopEnvCfg, render_mode: str | None = None, **settings: Any) -> None:
        """As Isaac Lab wants it; `cfg` from `task_cfg`."""
        self._task, self._robot = TASKS[cfg.task], ROBOTS[cfg.robot]
        self._kind: Kind = "joint_delta" if cfg.control == "joint_delta" else "ee_delta"
        super().__init__(cfg, render_mode, **settings)
        self._world = IsaacWorld(self.sim, self.scene, self._task.scene, self._robot)
        self._rng = np.random.default_rng(cfg.seed)
        self._everyone = list(range(self.num_envs))
        start = self._task.draw(0)
        self._goal: Goal = {name: torch.tensor([value] * self.num_envs, device=self.device) for name, value in start.goal.items()}
        self._world.start(self._everyone, self._task.scene, [start] * self.num_envs)
        self._command = hold(self._world.state(self._everyone))

    def _pre_physics_step(self, actions: torch.Tensor) -> None:
        state = self._world.state(self._everyone)
        self._command = follow(self._kind, self._robot, self._command, actions.clamp(-1, 1), state, self._world.limits)

    def _apply_action(self) -> None:
        self._world.command(self._everyone, self._command)

    def _get_observations(self) -> dict[str, torch.Tensor]:
        return {"policy": privileged(self._task, self._world.state(self._everyone), self._goal)}

    def _get_dones(self) -> tuple[torch.Tensor, torch.Tensor]:
        self._world.changed()
        broken = self._world.broken()
        if broken.any():
            rows = broken.nonzero()[:, 0].tolist()
            print(f"warning: the physics diverged in environments {rows}; they start anew")
            self._world.start(rows, self._task.scene, [self._task.draw(0)] * len(rows))
        success = self._task.success(self._world.state(self._everyone), self._goal)
        solved, cut = success & ~broken, broken | (self.episode_length_buf >= self.max_episode_length)
        self.extras["log"] = {"success": solved[solved | cut].float()}
        return solved, cut

    def _get_rewards(self) -> torch.Tensor:
        reward = self._task.reward(self._world.state(self._everyone), self._goal)
        return reward / CONTROL_HZ + SUCCESS_BONUS * self.reset_terminated

    def _reset_idx(self, env_ids: Sequence[int]) -> None:
        super()._reset_idx(env_ids)
        rows = torch.as_tensor(env_ids).tolist()
        starts = [self._task.draw(int(seed)) for seed in self._rng.choice(SEED_RANGES["train"], len(rows))]
        self._world.start(rows, self._task.scene, starts)
        for name, values in self._goal.items():
            values[rows] = torch.tensor([start.goal[name] for start in starts], dtype=values.dtype, device=self.device)
        fresh, at = hold(self._world.state(rows)), torch.tensor(rows, device=self.device)
        held = {name: old.index_copy(0, at, getattr(fresh, name)) for name, old in vars(self._command).items()}
        self._command = Command(**held)


def _cfg(task: str, kind: Kind) -> Callable[[], TabletopEnvCfg]:
    return lambda: task_cfg(task, control=kind)


def register() -> list[str]:
    """Register every task, and the humanoid's whole body, with gymnasium. Returns the command line's arguments, of which it uses none."""
    kinds: dict[str, Kind] = {"": "ee_delta", "-Joints": "joint_delta"}
    for name, (suffix, kind) in product(TASKS, kinds.items()):
        gymnasium.register(
            id=f"VlaRl-{name.capitalize()}{suffix}-v0",
            entry_point="sim.isaaclab.rl:TabletopEnv",
            disable_env_checker=True,
            kwargs={
                "env_cfg_entry_point": _cfg(name, kind),
                "rsl_rl_cfg_entry_point": "sim.isaaclab.rl_agent:PpoCfg",
            },
        )
    gymnasium.register(
        id="VlaRl-Hands-WholeBody-v0",
        entry_point="sim.isaaclab.humanoid_rl:WholeBodyEnv",
        disable_env_checker=True,
        kwargs={
            "env_cfg_entry_point": "sim.isaaclab.humanoid_rl:whole_body_cfg",
            "rsl_rl_cfg_entry_point": "sim.isaaclab.rl_agent:WholeBodyPpoCfg",
        },
    )
    return sys.argv[1:]
