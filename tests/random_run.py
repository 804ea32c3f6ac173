"""Run folders of policies that were never trained."""

from __future__ import annotations

from pathlib import Path

import torch

from policies.config import PolicyConfig
from policies.folder import save_policy
from policies.vla import VlaPolicy
from vla_rl.config import Config, SimConfig
from vla_rl.presets import dump_yaml
from vla_rl.train import make_env, make_spec


def random_run(folder: Path, sim: SimConfig, config: PolicyConfig) -> VlaPolicy:
    """Write what training would leave behind, as far as `export` reads it. Returns the policy."""
    env = make_env(sim)
    spec = make_spec(env.spec, config)
    env.close()
    torch.manual_seed(0)
    policy = VlaPolicy(config, spec)
    save_policy(policy, folder / "policy")
    dump_yaml(Config(sim=sim, policy=config), folder / "config.yaml")
    return policy
