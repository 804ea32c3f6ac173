"""Advantages per decision: group-relative for whole episodes, generalised advantage estimation over decisions.

E episodes · D decisions in (episode, step) order · K chunk steps
"""

from __future__ import annotations

import torch


def group_advantage(outcome: torch.Tensor, group: torch.Tensor, divide_by_std: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """(R − mean of its group) / standard deviation of its group (DeepSeekMath, arXiv 2402.03300 eq. 3).

    Args:
        outcome: `(E,)` float, for example 1 for success.
        group: `(E,)` int64; episodes of one initial state share a number.
        divide_by_std: divide by the group's (population) standard deviation.

    Returns:
        Advantages `(E,)`, zero in groups whose outcomes are all equal, and `(E,)` bool: the group has a signal.
    """
    _, number = group.unique(return_inverse=True)
    count = torch.bincount(number).to(outcome)
    mean = torch.zeros_like(count).index_add(0, number, outcome) / count
    centred = outcome - mean[number]
    variance = torch.zeros_like(count).index_add(0, number, centred**2) / count
    mixed = variance[number] > 1e-12
    scale = variance[number].sqrt() if divide_by_std else torch.ones_like(outcome)
    return torch.where(mixed, centred / torch.where(mixed, scale, 1), 0), mixed


def chunk_reward(reward: torch.Tensor, discount: float) -> torch.Tensor:
    """Discounted sum of the rewards `(D, K)` within each decision; steps that did not run hold zero. `(D,)`."""
    return (reward * discount ** torch.arange(reward.shape[1], device=reward.device)).sum(1)


def generalised_advantage(
    reward: torch.Tensor,
    value: torch.Tensor,
    last_value: torch.Tensor,
    executed: torch.Tensor,
    rollout: torch.Tensor,
    terminated: torch.Tensor,
    discount: float,
    gae_lambda: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """GAE over decisions (arXiv 1506.02438 eq. 16), each discounted by γ^(executed steps).

        δ = r + γ^n V(next) − V,  A = δ + γ^n λ A(next)

    The next value is V of the same episode's next decision; after its last decision it is 0 if the episode terminated,
    else V(last observation), for a time limit as for an episode that the buffer cuts off. Nothing crosses episodes.

    Args:
        reward: `(D,)` discounted reward of each decision (`chunk_reward`).
        value: `(D,)` V at each decision.
        last_value: `(E,)` V at the last observation of each episode, in rollout order.
        executed: `(D,)` control steps n of each decision.
        rollout: `(D,)` episode number of each decision, sorted.
        terminated: `(D,)` bool: success ended the episode in this decision.
        discount: γ per control step.
        gae_lambda: λ per decision.

    Returns:
        Advantages `(D,)` and value targets A + V `(D,)`.
    """
    _, episode = rollout.unique_consecutive(return_inverse=True)
    decay = discount**executed
    advantage = torch.zeros_like(value)
    for d in reversed(range(len(reward))):
        last = d + 1 == len(reward) or bool(episode[d + 1] != episode[d])
        following = (last_value[episode[d]] * ~terminated[d]) if last else value[d + 1]
        advantage[d] = reward[d] + decay[d] * following - value[d] + (0 if last else decay[d] * gae_lambda * advantage[d + 1])
    return advantage, advantage + value
