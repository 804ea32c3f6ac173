"""One Meta-World task in one process: seeded resets, exact control steps, states that can be saved and loaded.

The library's environment object is expensive to build, so many episodes share one: a `SceneState` holds
everything that differs between episodes (physics, model edits made by a reset, Python attributes).
"""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from metaworld.policies import ENV_POLICY_MAP

from sim.metaworld.state import SceneState
from sim.unstable import UNSTABLE
from sim.vec_env import SimulationError

PHYSICS = mujoco.mjtState.mjSTATE_INTEGRATION
"""The MuJoCo state that makes stepping on bit-identical: positions, velocities, mocap, controls, warm start."""

PLAIN = (bool, int, float, str, np.generic, type(None))

PLACEMENT_OF = {"faucet-close": "faucet-open"}
"""Tasks that draw placements from another task's range. The library spreads faucet-close twice as wide as
faucet-open; with one range the two scenes are identical for a seed, and only the instruction tells them apart."""


class Scene:
    """The library's environment of one task, used for any number of episodes."""

    def __init__(self, task: str) -> None:
        self.task = task
        self.env = ALL_V3_ENVIRONMENTS[f"{task}-v3"]()
        self.env._set_task_called = True
        self.env._freeze_rand_vec = False
        self.env.seeded_rand_vec = True
        _show_goal(self.env)
        if task in PLACEMENT_OF:
            self.env._random_reset_space = ALL_V3_ENVIRONMENTS[f"{PLACEMENT_OF[task]}-v3"]()._random_reset_space
        self.model, self.data = self.env.model, self.env.data
        self.obs = np.zeros(39)
        self._obs_low = self.env.sawyer_observation_space.low
        self._obs_high = self.env.sawyer_observation_space.high
        self._expert = ENV_POLICY_MAP[f"{task}-v3"]()
        mujoco.mj_resetData(self.model, self.data)
        self._views = self._find_views()
        self._pristine = self.save()
        self._settle_hand()
        self.reset(seed=0)
        self._views = self._find_views()

    def reset(self, seed: int) -> None:
        """Start the episode of `seed`; nothing that happened before matters.

        `reset_model` runs twice with the same draw, as some tasks read positions before they move the
        object, and so see the placement only in the second pass.
        """
        self.load(self._pristine)
        for _ in range(2):
            self.env.np_random = np.random.default_rng(seed)
            self.env.reset_model()
            mujoco.mj_forward(self.model, self.data)
        self.env.curr_path_length = 0
        self.env._prev_obs = self.env._get_curr_obs_combined_no_goal()
        self.obs = self._observe()
        self._check_stable()

    def step(self, action: np.ndarray) -> tuple[float, bool]:
        """One control step, with the states, reward and success of the library's `step`.

        Args:
            action: `(4,)` float32, within the action range.

        Returns:
            Dense reward, and whether the task is solved now.

        Raises:
            SimulationError: the physics became unstable.
        """
        env = self.env
        env.set_xyz_action(action[:3])
        self.data.ctrl[:] = (action[3], -action[3])
        mujoco.mj_step(self.model, self.data, nstep=env.frame_skip)
        mujoco.mj_forward(self.model, self.data)
        self._check_stable()
        self.obs = self._observe()
        reward, info = env.evaluate_state(self.obs, action)
        return float(reward), bool(info["success"])

    def expert_action(self) -> np.ndarray:
        """The scripted expert's action `(4,)` float32 at the present state, clipped to the action range."""
        return np.clip(self._expert.get_action(self.obs), -1.0, 1.0).astype(np.float32)

    def state(self) -> np.ndarray:
        """`(4,)` float32 hand position [m] and gripper opening."""
        return self.obs[:4].astype(np.float32)

    def privileged(self) -> np.ndarray:
        """`(39,)` float32 the library's whole observation, with object and goal."""
        return self.obs.astype(np.float32)

    def save(self) -> SceneState:
        """Copy out the present state."""
        physics = np.empty(mujoco.mj_stateSize(self.model, PHYSICS))
        mujoco.mj_getState(self.model, self.data, physics, PHYSICS)
        return SceneState(physics, self.model.body_pos.copy(), self.model.site_pos.copy(), self._attributes(), self.obs.copy())

    def load(self, state: SceneState) -> None:
        """Put the environment into `state`, of this task."""
        self.model.body_pos[:] = state.body_pos
        self.model.site_pos[:] = state.site_pos
        mujoco.mj_setState(self.model, self.data, state.physics, PHYSICS)
        mujoco.mj_forward(self.model, self.data)
        for kind in UNSTABLE:
            self.data.warning[kind].number = 0
        self._set_attributes(state.attributes)
        self.obs = state.obs.copy()

    def _attributes(self) -> dict[str, Any]:
        """Numbers and arrays of the library's object, copied. Views of simulator memory follow it by themselves."""
        kept = {}
        for name, value in vars(self.env).items():
            if isinstance(value, np.ndarray):
                if name not in self._views:
                    kept[name] = value.copy()
            elif isinstance(value, PLAIN):
                kept[name] = value
        return kept

    def _set_attributes(self, attributes: dict[str, Any]) -> None:
        for name, value in attributes.items():
            setattr(self.env, name, value.copy() if isinstance(value, np.ndarray) else value)

    def _find_views(self) -> frozenset[str]:
        """Names of attributes that are views of simulator memory, such as `get_body_com(...)` kept without a copy."""
        data = self.data
        fields = (data.xpos, data.xquat, data.site_xpos, data.geom_xpos, data.qpos)
        arrays = {name: value for name, value in vars(self.env).items() if isinstance(value, np.ndarray)}
        return frozenset(name for name, value in arrays.items() if any(np.may_share_memory(value, field) for field in fields))

    def _settle_hand(self) -> None:
        """Run the library's 50 steps that bring the hand to its start once, and let resets reuse the outcome."""
        self.env._reset_hand()
        settled, before = self.save(), self._pristine.attributes
        changed = {
            name: value for name, value in settled.attributes.items() if name not in before or not np.array_equal(value, before[name])
        }

        def recall(steps: int = 50) -> None:
            mujoco.mj_setState(self.model, self.data, settled.physics, PHYSICS)
            mujoco.mj_forward(self.model, self.data)
            self._set_attributes(changed)

        self.env._reset_hand = recall

    def _observe(self) -> np.ndarray:
        return np.clip(self.env._get_obs(), self._obs_low, self._obs_high)

    def _check_stable(self) -> None:
        if any(self.data.warning[kind].number for kind in UNSTABLE):
            raise SimulationError("physics became unstable (NaN or huge position, velocity or acceleration)")


def _show_goal(env: Any) -> None:
    """Include the goal in the library's observation: experts and critics need it, policies do not get it."""
    env._partially_observable = False
    env.__dict__.pop("sawyer_observation_space", None)
