"""Advantages by hand: groups, and generalised advantage estimation in every way that an episode can end."""

from __future__ import annotations

import pytest
import torch

from vla_rl.objectives.advantage import chunk_reward, generalised_advantage, group_advantage

HALF = 0.5  # γ per control step and λ per decision: powers that are easy by hand


def test_group_advantages_by_hand() -> None:
    outcome, group = torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0, 1.0]), torch.tensor([3, 3, 3, 3, 9, 9])
    advantage, mixed = group_advantage(outcome, group, divide_by_std=True)
    # mean ¼, standard deviation √(¼ · ¾) = 0.4330; the second group has equal outcomes
    assert advantage.tolist() == pytest.approx([0.75 / 0.4330127, *[-0.25 / 0.4330127] * 3, 0, 0])
    assert mixed.tolist() == [True] * 4 + [False] * 2
    assert group_advantage(outcome, group, divide_by_std=False)[0].tolist() == pytest.approx([0.75, -0.25, -0.25, -0.25, 0, 0])


def test_group_advantages_do_not_depend_on_order() -> None:
    outcome, group = torch.tensor([1.0, 0.0, 1.0, 1.0]), torch.tensor([7, 2, 2, 7])
    assert group_advantage(outcome, group, divide_by_std=True)[0].tolist() == pytest.approx([0, -1, 1, 0])


def test_rewards_inside_a_chunk_are_discounted_per_control_step() -> None:
    assert chunk_reward(torch.tensor([[1.0, 2.0, 4.0], [8.0, 0.0, 0.0]]), HALF).tolist() == [3.0, 8.0]


def gae(reward: list[float], value: list[float], last: list[float], executed: list[int], rollout: list[int], terminated: list[bool]):
    return generalised_advantage(
        torch.tensor(reward), torch.tensor(value), torch.tensor(last), torch.tensor(executed), torch.tensor(rollout),
        torch.tensor(terminated), HALF, HALF,
    )  # fmt: skip


def test_mid_episode_decisions_bootstrap_from_the_next_value() -> None:
    # The last decision ends with success after 2 steps: δ1 = 1 − 4 = −3. Before it, δ0 = 0 + ½³·4 − 2 = −1.5,
    # A0 = −1.5 + ½³·½·(−3) = −1.6875.
    advantage, returns = gae([0.0, 1.0], [2.0, 4.0], [100.0], [3, 2], [5, 5], [False, True])
    assert advantage.tolist() == [-1.6875, -3.0]
    assert returns.tolist() == [0.3125, 1.0]


def test_success_inside_a_chunk_has_nothing_after_it() -> None:
    advantage, _ = gae([0.5], [1.0], [100.0], [1], [0], [True])
    assert advantage.tolist() == [-0.5]


def test_time_limit_bootstraps_from_the_last_observation() -> None:
    advantage, _ = gae([0.0], [1.0], [8.0], [3], [0], [False])
    assert advantage.tolist() == [0.0]  # ½³ · 8 − 1


def test_buffer_end_is_bootstrapped_like_a_time_limit_and_episodes_do_not_leak() -> None:
    # Two episodes, both cut off; the second decision of the first must not see the first of the second.
    advantage, _ = gae([0.0, 0.0, 0.0], [1.0, 1.0, 2.0], [4.0, 16.0], [1, 2, 3], [1, 1, 4], [False, False, False])
    # δ1 = ½²·4 − 1 = 0; δ0 = ½·1 − 1 = −½, A0 = −½ + ½·½·0; δ2 = ½³·16 − 2 = 0
    assert advantage.tolist() == [-0.5, 0.0, 0.0]


def test_without_lambda_it_is_the_one_step_error_and_with_one_the_whole_return() -> None:
    reward, value, last = torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.3, 0.2, 0.1]), torch.tensor([0.0])
    executed, rollout, terminated = torch.tensor([2, 2, 2]), torch.zeros(3, dtype=torch.long), torch.tensor([False, False, True])
    one, _ = generalised_advantage(reward, value, last, executed, rollout, terminated, 0.9, 0.0)
    assert one.tolist() == pytest.approx([0.81 * 0.2 - 0.3, 0.81 * 0.1 - 0.2, 0.9])
    _, returns = generalised_advantage(reward, value, last, executed, rollout, terminated, 0.9, 1.0)
    assert returns.tolist() == pytest.approx([0.9**4, 0.9**2, 1.0])
