"""Rollouts of a policy as demonstrations, on the real simulator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from policies.config import PolicyConfig
from policies.vla import VlaPolicy
from vla_rl.config import SimConfig
from vla_rl.data.collect import CollectConfig, collect
from vla_rl.data.demos import load_demos
from vla_rl.data.play import play
from vla_rl.train import make_env, make_spec

SIM = SimConfig(tasks=("plate-slide",), num_envs=2, workers=1, horizon=20)


def test_play_keeps_every_step_and_what_the_policy_did(tmp_path: Path) -> None:
    env = make_env(SIM)
    try:
        torch.manual_seed(0)
        policy = VlaPolicy(PolicyConfig(), make_spec(env.spec, PolicyConfig()))
        first, second = play(policy, env, [0, 1], [3, 4], ["plate-slide"] * 2)
        assert first.action.shape == (20, 4)  # an untrained policy runs to the horizon: chunks of 8, 8 and 4
        assert first.obs["observation.images.corner2"].shape == (20, 64, 64, 3)
        obs = env.reset([0], [4], ["plate-slide"])
        for name in ("observation.images.corner2", "observation.state"):
            assert np.array_equal(second.obs[name][0], obs[name][0])
        step = env.step_chunk(second.action[None, :9], [0])  # step 9 lies inside the second chunk
        assert np.array_equal(second.obs["observation.state"][9], step.obs["observation.state"][0])
        assert np.array_equal(second.obs["observation.images.corner2"][9], step.obs["observation.images.corner2"][0])
        out = collect(CollectConfig(out=tmp_path / "rollouts", sim=SIM, episodes=1, keep_failures=True), env, policy)
        demos = load_demos(out, policy.spec)
        assert len(demos) == 20
        assert demos.tasks == ("plate-slide",)
    finally:
        env.close()
