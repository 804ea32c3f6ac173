"""`vla-rl export`: the policy of a run becomes a bundle, with a sample recorded in the simulator that it was trained in."""

from __future__ import annotations

from pathlib import Path

import torch

from policies.bundle import Bundle
from policies.folder import load_policy
from policies.interface import Observation, Policy, UserError
from policies.pack import pack
from sim.vec_env import SEED_RANGES, VecEnv, seat
from vla_rl.config import SimConfig
from vla_rl.deployment import action_map, joint_limits, observation_terms, seen_delays
from vla_rl.provenance import describe_environment
from vla_rl.rollout import require_matching_env
from vla_rl.train import make_env

TOLERANCE = 1e-3
"""Of half an action range: other processors round differently, and a denoising chain carries that on."""
DECISIONS = 4
"""Recorded decisions, at most; one of each of so many training episodes."""


def export(folder: Path, config: SimConfig, out: Path, onnx: bool = False, executed: int | None = None) -> Bundle:
    """Write the bundle of a policy folder to `out`.

    Args:
        folder: the policy folder.
        config: the simulator that it was trained in; its cameras and actions go into the bundle.
        out: a folder that does not exist yet.
        onnx: also write `policy.onnx`, and hold it against torch.
        executed: control steps before the next decision, if fewer than in training.

    Raises:
        UserError: `out` exists, `executed` does not fit the chunk, the policy does not fit the simulator or ONNX, or no robot
            can do what the simulator's does.
        BundleError: what was written does not act as the policy; nothing is left at `out`.
    """
    if config.backend == "libero":
        raise UserError("policies of LIBERO move the tool by forces, which no robot's profile has: export one of another simulator")
    policy = load_policy(folder, executed=executed)
    env = make_env(config.model_copy(update={"num_envs": max(DECISIONS, len(config.tasks)), "workers": 1}))
    try:
        require_matching_env(policy.spec, env)
        observation = _observe(policy, env)
    finally:
        env.close()
    return pack(policy, _describe(policy, config), observation, out, onnx)


def _observe(policy: Policy, env: VecEnv) -> Observation:
    """`(DECISIONS, ...)` observations of training episodes after one chunk of the policy, when things move."""
    seats = seat(env, [env.tasks[i % len(env.tasks)] for i in range(DECISIONS)])
    ids = [env_id for env_id in seats if env_id is not None]
    tasks = [task for env_id, task in zip(seats, env.tasks * DECISIONS, strict=False) if env_id is not None]
    first = env.reset(ids, list(SEED_RANGES["train"][: len(ids)]), tasks)
    with torch.no_grad():
        chunk, _ = policy.sample(policy.encode(first), "greedy", 1.0, torch.Generator().manual_seed(0))
    return env.step_chunk(chunk[:, : policy.spec.executed].numpy(), ids).obs


def _describe(policy: Policy, config: SimConfig) -> Bundle:
    here = describe_environment()
    origin = {"backend": config.backend, "tasks": ", ".join(config.tasks)}
    origin |= {"commit": here["commit"] + (" with changes" if here["dirty"] else ""), "machine": here["machine"]}
    return Bundle(
        spec=policy.spec,
        observations=observation_terms(policy, config),
        action_map=action_map(policy.spec.action, config),
        noise_shape=policy.noise_shape,
        delay_s=seen_delays(config),
        limits=joint_limits(config),
        tolerance=TOLERANCE,
        origin=origin | here["packages"],
        files={},
    )
