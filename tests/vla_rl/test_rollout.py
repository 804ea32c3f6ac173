"""The rollout engine on a simulator whose numbers can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from policies.interface import Mode, PolicyError, SpecError
from tests.vla_rl.counting import CountingEnv, counting_policy
from vla_rl.batch import Batch, Episode, EpisodeResult
from vla_rl.rollout import run_episodes
from vla_rl.teachers import ExpertTeacher

# Chunks of 3 executed steps, horizon 10: success inside a chunk, at its end, never, and at the very last step.
EPISODES = [Episode("count", 5), Episode("wait", 6), Episode("count", 99), Episode("count", 10), Episode("wait", 1)]


def roll(num_envs: int = 2, seed: int = 0, **options: bool) -> tuple[Batch, list[EpisodeResult]]:
    batch, results = run_episodes(counting_policy(), CountingEnv(num_envs), EPISODES, mode="stochastic", seed=seed, keep=True, **options)
    assert batch is not None
    return batch, results


def test_results_come_in_order_with_steps_success_and_reward() -> None:
    _, results = roll()
    assert [r.episode for r in results] == EPISODES
    assert [r.steps for r in results] == [5, 6, 10, 10, 1]
    assert [r.success for r in results] == [True, True, False, True, True]
    assert [r.reward for r in results] == [15, 21, 55, 55, 1]  # 1 + 2 + ... + steps
    assert results[1].instruction == "please wait"


def test_every_episode_end_case_in_the_batch() -> None:
    batch, _ = roll()
    assert batch.rollout.tolist() == [0] * 2 + [1] * 2 + [2] * 4 + [3] * 4 + [4]
    assert batch.step.tolist() == [0, 1, 0, 1, 0, 1, 2, 3, 0, 1, 2, 3, 0]
    executed = batch.mask[:, :, 0].sum(1).tolist()
    assert executed == [3, 2, 3, 3, 3, 3, 3, 1, 3, 3, 3, 1, 1]
    assert torch.nonzero(batch.terminated)[:, 0].tolist() == [1, 3, 11, 12]  # success inside a chunk, at its end, at the last step, at once
    assert torch.nonzero(batch.truncated)[:, 0].tolist() == [7]  # the time limit, with one step executed
    assert batch.reward[1].tolist() == [4, 5, 0, 0]  # the short last chunk keeps its reward; step 4 of the chunk never runs
    assert batch.obs["observation.state"][:, 0].tolist() == [0, 3, 0, 3, 0, 3, 6, 9, 0, 3, 6, 9, 0]
    assert batch.last_obs["observation.state"][:, 0].tolist() == [5, 6, 10, 10, 1]
    assert batch.success.tolist() == [True] * 4 + [False] * 4 + [True] * 5


def test_behaviour_log_prob_is_what_the_policy_scores() -> None:
    batch, _ = roll()
    policy = counting_policy()
    log_prob = policy.factors(policy.encode(batch.obs), batch.decision, batch.mask).log_prob()
    assert torch.allclose(log_prob, batch.log_prob, atol=1e-5)
    chunk = policy.head.decode(batch.decision.values["tokens"]).reshape(batch.chunk.shape)
    assert torch.allclose(policy.normalizer["action"].inverse(chunk), batch.chunk)


class LockstepEnv(CountingEnv):
    """Two simulations: environments 0 and 1 can only count, 2 and 3 can only wait."""

    lockstep = ((0, 1), (2, 3))

    def hosts(self, env_id: int) -> tuple[str, ...]:
        return ("count",) if env_id < 2 else ("wait",)


def test_environments_that_step_together_are_asked_together_and_only_for_what_they_host() -> None:
    env = LockstepEnv(4)
    _, results = run_episodes(counting_policy(), env, EPISODES, mode="greedy", seed=0)
    assert [r.steps for r in results] == [5, 6, 10, 10, 1] and [r.instruction for r in results][1:3] == ["please wait", "please count"]
    assert env.asked[:2] == [(0, 1), (2, 3)], "whole sets in the first turn"
    assert all(set(ids) <= {0, 1} or set(ids) <= {2, 3} for ids in env.asked)
    counted = [ids for ids in env.asked if ids[0] < 2]
    assert counted[2] == (0, 1), "the third count episode joins in the turn after a place is free, without waiting one"


def test_a_task_that_no_environment_hosts_is_refused() -> None:
    with pytest.raises(SpecError, match="no environment can run task 'wait'; the simulator was started for count"):
        env = LockstepEnv(2)
        env.lockstep, env.tasks = ((0, 1),), ("count",)
        run_episodes(counting_policy(), env, EPISODES, mode="greedy", seed=0)


def test_outcome_depends_on_the_seed_alone() -> None:
    first, again, other = roll()[0], roll()[0], roll(seed=1)[0]
    assert torch.equal(first.chunk, again.chunk)
    assert not torch.equal(first.chunk, other.chunk)


@pytest.mark.parametrize("num_envs", [1, 3, 9])
def test_any_number_of_environments_runs_every_episode_once(num_envs: int) -> None:
    batch, results = roll(num_envs)
    assert [r.steps for r in results] == [5, 6, 10, 10, 1]
    assert batch.rollout.tolist() == [0] * 2 + [1] * 2 + [2] * 4 + [3] * 4 + [4]


def test_idle_environments_take_episodes_of_a_busy_group() -> None:
    env = CountingEnv(4)
    episodes = [Episode("count", goal) for goal in (99, 1, 1, 1, 2, 1, 1, 1)]  # one environment each; the fifth waits for the first
    _, results = run_episodes(counting_policy(), env, episodes, mode="stochastic", seed=0)
    assert [r.steps for r in results] == [10, 1, 1, 1, 2, 1, 1, 1]
    assert env.slots[0].goal == 99, "its environment had no time for another episode"


def test_instruction_override_and_teacher_chunks() -> None:
    told = [Episode("count", 4, "do the other thing")]
    teacher = ExpertTeacher(counting_policy(), 0.1)
    batch, results = run_episodes(
        counting_policy(), CountingEnv(1), told, mode="greedy", seed=0, keep=True, labeller=teacher.chunk, first_rollout=7
    )
    assert batch is not None
    assert results[0].instruction == "do the other thing"
    assert batch.obs["task"].tolist() == ["do the other thing"] * 2
    assert batch.rollout.tolist() == [7, 7]
    assert batch.teacher_chunk is not None
    assert batch.teacher_chunk.shape == (2, 4, 1)
    assert batch.teacher_chunk.unique().tolist() == [0.5]


def test_another_interface_is_refused_before_anything_runs() -> None:
    policy, env = counting_policy(), CountingEnv(1)
    policy.spec = policy.spec.model_copy(update={"control_hz": 20})
    with pytest.raises(SpecError, match=r"policy and environment disagree on control_hz: 20(.0)? against 10"):
        run_episodes(policy, env, EPISODES, mode="greedy", seed=0)
    assert all(slot.ended for slot in env.slots)


@pytest.mark.parametrize("mode", ["greedy", "stochastic"])
def test_nan_observations_are_never_acted_on(mode: Mode, monkeypatch: pytest.MonkeyPatch) -> None:
    env = CountingEnv(1)
    observe = env._observe
    monkeypatch.setattr(env, "_observe", lambda ids: observe(ids) | {"observation.state": np.full((len(ids), 1), np.nan, np.float32)})
    with pytest.raises(PolicyError, match="NaN"):
        run_episodes(counting_policy(), env, EPISODES, mode=mode, seed=0)
    assert env.slots[0].count == 0
