"""Rollouts of a policy as demonstrations, with an observation per control step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from policies.interface import ChunkPolicy, Observation
from sim.vec_env import PICTURE, Demonstration, VecEnv


def play(policy: ChunkPolicy, env: VecEnv, env_ids: Sequence[int], seeds: Sequence[int], tasks: Sequence[str]) -> list[Demonstration]:
    """Greedy episodes of `policy`, one per environment, seed and task, side by side.

    The actions of a demonstration are those the policy executed. Images are rendered at every control step.
    """
    ids = list(range(len(seeds)))
    obs = env.reset(env_ids, seeds, tasks)
    text = policy.spec.of_kind("text")[0].name
    instructions = [str(instruction) for instruction in obs[text]]
    views: list[list[Observation]] = [[{name: value[i] for name, value in obs.items() if name != text}] for i in ids]
    actions: list[list[np.ndarray]] = [[] for _ in ids]
    success: list[list[bool]] = [[] for _ in ids]
    active = ids
    while active:
        with torch.no_grad():
            chunk = policy.sample(policy.encode(obs), "greedy")[0][:, : policy.spec.executed].numpy()
        step = env.step_chunk(chunk, [env_ids[i] for i in active], "all")
        for row, i in enumerate(active):
            executed = int(step.executed[row])
            actions[i] += list(chunk[row, :executed])
            success[i] += step.success[row, :executed].tolist()
            views[i] += [{name: value[row] for name, value in frame.items() if name != PICTURE} for frame in step.frames[:executed]]
        going = np.flatnonzero(~step.done)
        active = [active[row] for row in going]
        obs = {name: value[going] for name, value in step.obs.items()}
    return [
        Demonstration(
            task=tasks[i],
            seed=seeds[i],
            instruction=instructions[i],
            obs={name: np.stack([view[name] for view in views[i][:-1]]) for name in views[i][0]},
            action=np.stack(actions[i]),
            executed=np.stack(actions[i]),
            success=np.array(success[i]),
        )
        for i in ids
    ]
