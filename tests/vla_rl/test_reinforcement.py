"""GRPO, PPO and DAgger on a simulator whose numbers can be worked out by hand: identities, guards, exact resume."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from policies.interface import Policy
from tests.vla_rl.counting import CountingEnv, counting_policy
from tests.vla_rl.test_training import config, metrics, weights
from vla_rl.algorithms.dagger import Dagger
from vla_rl.algorithms.grpo import Grpo
from vla_rl.algorithms.opd import Opd
from vla_rl.algorithms.ppo import Ppo
from vla_rl.algorithms.sft import Sft
from vla_rl.batch import Batch, Episode
from vla_rl.config import DaggerConfig, GrpoConfig, OnPolicyConfig, OpdConfig, PpoConfig, SftConfig
from vla_rl.errors import NoSignalError
from vla_rl.loops import PATIENCE, on_policy
from vla_rl.rollout import run_episodes
from vla_rl.run import Run
from vla_rl.teachers import PolicyTeacher

PPO = PpoConfig(updates=3, episodes=6, passes=1, minibatch=16, checkpoint_every=1, lr=1e-3)
ONE_STEP = {"passes": 1, "minibatch": 10_000}


def batch_of(policy: Policy, success: list[bool], seed: int = 0) -> Batch:
    """Episodes of one length in groups of two, with success as told: the counter does not depend on actions."""
    episodes = [Episode("count", 99)] * len(success)
    batch, _ = run_episodes(policy, CountingEnv(2), episodes, mode="stochastic", seed=seed, keep=True)
    assert batch is not None
    number = batch.rollout - batch.rollout[0]
    return replace(batch, success=torch.tensor(success)[number], group=number // 2)


def gradient(algorithm: Opd | Grpo | Ppo | Dagger, batch: Batch) -> torch.Tensor:
    """Direction of the algorithm's first gradient step on a batch."""
    algorithm.update(batch, torch.Generator().manual_seed(0))
    gradients = [p.grad.flatten() for p in algorithm.policy.parameters() if p.grad is not None]
    return torch.nn.functional.normalize(torch.cat(gradients), dim=0)


def test_groups_with_equal_outcomes_are_counted_and_dropped() -> None:
    policy = counting_policy()
    batch = batch_of(policy, [True, False, True, True, False, False])
    row = Grpo(policy, GrpoConfig(**ONE_STEP), None).update(batch, torch.Generator().manual_seed(0))
    assert row["zero_variance_groups"] == pytest.approx(2 / 3)
    assert row["dropped_decisions"] == pytest.approx(2 / 3)
    mixed = replace_rows(batch, batch.group == 0)
    again = counting_policy()
    Grpo(again, GrpoConfig(**ONE_STEP), None).update(mixed, torch.Generator().manual_seed(0))
    assert torch.allclose(weights(policy), weights(again), atol=1e-6)


def replace_rows(batch: Batch, keep: torch.Tensor) -> Batch:
    """The decisions where `keep` holds."""
    index = keep.nonzero()[:, 0]
    names = ("chunk", "log_prob", "factor_mask", "mask", "rollout", "step", "reward", "terminated", "truncated", "success", "group")
    tensors = {name: getattr(batch, name)[index] for name in names}
    return replace(batch, obs=batch.obs_at(index), decision=batch.decision[index], **tensors)


def test_success_becomes_more_likely_and_failure_less() -> None:
    policy = counting_policy()
    batch = batch_of(policy, [True, False, True, False])
    Grpo(policy, GrpoConfig(**ONE_STEP, lr=1e-4), None).update(batch, torch.Generator().manual_seed(0))
    with torch.no_grad():
        new = policy.factors(policy.encode(batch.obs), batch.decision, batch.mask).log_prob()
    change = torch.where(batch.mask.flatten(1), new - batch.log_prob, 0).sum(1)
    assert change[batch.success].mean() > 0 > change[~batch.success].mean()


def test_dgrpo_without_outcome_variance_is_opd_and_without_beta_is_grpo() -> None:
    teacher = PolicyTeacher(counting_policy(seed=1))
    equal, mixed = ([True] * 4, [True, False, True, False])
    for form, estimator in (("loss", "exact"), ("advantage", "sampled")):
        dgrpo = GrpoConfig.model_validate(ONE_STEP | {"distill": 1.0, "distill_as": form})
        opd = OpdConfig.model_validate(ONE_STEP | {"estimator": estimator})
        ours = gradient(Grpo(counting_policy(), dgrpo, teacher), batch_of(counting_policy(), equal))
        theirs = gradient(Opd(counting_policy(), opd, teacher), batch_of(counting_policy(), equal))
        assert torch.dot(ours, theirs) > 0.9999
        plain = gradient(Grpo(counting_policy(), GrpoConfig(**ONE_STEP), None), batch_of(counting_policy(), mixed))
        assert torch.dot(plain, gradient(Grpo(counting_policy(), dgrpo, teacher), batch_of(counting_policy(), mixed))) < 0.999


def test_as_beta_vanishes_dgrpo_becomes_grpo_also_beside_dropped_groups() -> None:
    teacher, outcomes = PolicyTeacher(counting_policy(seed=1)), [True, False, True, True]
    settings = GrpoConfig.model_validate(ONE_STEP)
    rows = [
        Grpo(counting_policy(), change, teacher).update(batch_of(counting_policy(), outcomes), torch.Generator())
        for change in (settings, settings.model_copy(update={"distill": 1e-9}))
    ]
    assert rows[0]["grad_norm"] == pytest.approx(rows[1]["grad_norm"], rel=1e-4)


def test_longer_failures_push_no_harder_when_episodes_count_alike() -> None:
    """A success of 1 decision and a failure of 4: by factor the policy is pushed away from what it did, on average."""
    episodes = [Episode("count", 2), Episode("count", 99)]
    batch, _ = run_episodes(counting_policy(), CountingEnv(2), episodes, mode="stochastic", seed=0, keep=True)
    assert batch is not None
    batch = replace(batch, group=torch.zeros_like(batch.group))
    pushes = {}
    for mean in ("factor", "rollout"):
        settings = GrpoConfig.model_validate(ONE_STEP | {"loss_mean": mean})
        pushes[mean] = Grpo(counting_policy(), settings, None).update(batch, torch.Generator().manual_seed(0))["loss"]
    failure = batch.factor_mask[~batch.success].sum() / batch.factor_mask.sum()
    assert pushes["rollout"] == pytest.approx(0.0, abs=1e-6)  # at ratio 1 the loss is minus the mean advantage
    assert pushes["factor"] == pytest.approx(2 * failure.item() - 1, abs=1e-5)


@pytest.mark.parametrize("name", ["grpo", "ppo"])
def test_equal_rewards_for_a_whole_stretch_stop_the_run_after_a_checkpoint(name: str, tmp_path: Path) -> None:
    """Seeds of 7 and above never succeed here, and training seeds are drawn from a million."""
    short = {"updates": 2 * PATIENCE, "episodes": 4, "checkpoint_every": 100, "passes": 1}
    algorithm: Grpo | Ppo
    if name == "grpo":
        algorithm = Grpo(counting_policy(), GrpoConfig.model_validate(short | {"group": 2}), None)
    else:
        algorithm = Ppo(counting_policy(), PpoConfig.model_validate(short))
    advice = {"grpo": "equal within every group .* enlarge algorithm.group", "ppo": "equal .* set algorithm.reward dense"}
    with pytest.raises(NoSignalError, match=f"{advice[name]}"):
        on_policy(Run(tmp_path, config(algorithm.config), resume=False), algorithm, CountingEnv(2))
    assert json.loads((tmp_path / "checkpoints" / f"{PATIENCE:06d}" / "progress.json").read_text())["idle"] == PATIENCE


def test_dense_rewards_are_a_signal_without_any_success(tmp_path: Path) -> None:
    settings = PpoConfig(updates=PATIENCE + 1, episodes=2, passes=1, reward="dense")
    progress = on_policy(Run(tmp_path, config(settings), resume=False), Ppo(counting_policy(), settings), CountingEnv(2))
    assert progress.updates == PATIENCE + 1
    assert metrics(tmp_path)[-1]["rollout_success"] == 0


def test_everything_solved_is_no_reason_to_stop() -> None:
    policy = counting_policy()
    row = Grpo(policy, GrpoConfig(**ONE_STEP), None).update(batch_of(policy, [True] * 4), torch.Generator())
    assert row == {"zero_variance_groups": 1.0, "dropped_decisions": 1.0}


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"group": 1}, "greater than or equal to 2"), ({"group": 8, "episodes": 20}, "episodes=20 must be a multiple of group=8")],
)
def test_groups_that_make_no_sense_are_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        GrpoConfig.model_validate(settings)


def test_success_reward_is_one_at_the_step_of_success() -> None:
    policy = counting_policy()
    batch, _ = run_episodes(policy, CountingEnv(1), [Episode("count", 5), Episode("count", 99)], mode="stochastic", seed=0, keep=True)
    assert batch is not None
    reward = batch.success_reward()  # chunks of 3 steps: success at step 5 is the second step of the second decision
    assert reward[:2].tolist() == [[0, 0, 0, 0], [0, 1, 0, 0]]
    assert reward[2:].sum() == 0


def test_ppo_learns_values_and_resumes_exactly(tmp_path: Path) -> None:
    whole = Ppo(counting_policy(), PPO)
    on_policy(Run(tmp_path / "whole", config(PPO), resume=False), whole, CountingEnv(3))
    stopped = Ppo(counting_policy(), PPO)
    update, calls = stopped.update, []

    def crash_at_the_third(batch: Batch, generator: torch.Generator) -> dict[str, float]:
        calls.append(batch.version)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return update(batch, generator)

    stopped.update = crash_at_the_third  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        on_policy(Run(tmp_path / "stopped", config(PPO), resume=False), stopped, CountingEnv(3))
    resumed = Ppo(counting_policy(seed=5), PPO)
    on_policy(Run(tmp_path / "stopped", config(PPO), resume=True), resumed, CountingEnv(3))
    assert torch.equal(weights(resumed.policy), weights(whole.policy))
    assert all(torch.equal(a, b) for a, b in zip(resumed.critic.parameters(), whole.critic.parameters(), strict=True))
    assert metrics(tmp_path / "stopped") == metrics(tmp_path / "whole")


def test_ppo_value_head_explains_the_return() -> None:
    settings = {"updates": 100, "passes": 4, "lr": 1e-6, "value_lr": 1e-2, "discount": 0.7, "gae_lambda": 1.0}
    algorithm = Ppo(counting_policy(), PPO.model_copy(update=settings))
    episodes = [Episode("count", 9)] * 8  # success at step 9: the return depends on the count alone, 0.06 at 0 to 0.49 at 6
    for update in range(37):
        batch, _ = run_episodes(algorithm.policy, CountingEnv(4), episodes, mode="stochastic", seed=update, keep=True)
        assert batch is not None
        row = algorithm.update(batch, torch.Generator().manual_seed(update))
    assert row["log_prob_mismatch"] < 1e-4
    assert row["value_explained"] > 0.8


def test_dagger_mixture_lets_the_teacher_act_decision_by_decision() -> None:
    student, teacher = counting_policy(), PolicyTeacher(counting_policy(seed=1))
    algorithm = Dagger(student, DaggerConfig(mixture=0.8, mixture_decay=0.5), teacher)
    assert [algorithm.mixture(update) for update in (0, 1, 2)] == pytest.approx([0.8, 0.4, 0.2])
    episodes = [Episode("count", 99)] * 30
    for beta in (0.0, 0.5, 1.0):
        batch, _ = run_episodes(
            student, CountingEnv(4), episodes, mode="stochastic", seed=0, keep=True, labeller=teacher.chunk, mixture=beta
        )
        assert batch is not None and batch.teacher_chunk is not None
        acted = np.array(batch.source) == "teacher"
        assert acted.mean() == pytest.approx(beta, abs=0.12)
        same = (batch.chunk == batch.teacher_chunk).flatten(1).all(1).numpy()
        assert same[acted].all()
        assert not same[~acted].all() or acted.all()


def test_dagger_learns_the_teachers_chunks() -> None:
    student, teacher = counting_policy(), PolicyTeacher(counting_policy(seed=1))
    algorithm = Dagger(student, DaggerConfig(updates=10, lr=2e-3), teacher)
    losses = []
    for update in range(5):
        batch, _ = run_episodes(
            student, CountingEnv(4), [Episode("count", 99)] * 8, mode="stochastic", seed=update, keep=True, labeller=teacher.chunk
        )
        assert batch is not None
        losses.append(algorithm.update(batch, torch.Generator().manual_seed(update))["loss"])
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize("name", ["opd", "grpo", "ppo", "dagger"])
def test_gradient_accumulation_is_the_whole_minibatch(name: str) -> None:
    teacher = PolicyTeacher(counting_policy(seed=1))
    episodes = [Episode("count", seed) for seed in (1, 2, 4, 99)]  # last chunks of 1, 2, 1 and 1 steps
    batch, _ = run_episodes(
        counting_policy(), CountingEnv(2), episodes, mode="stochastic", seed=0, keep=True, labeller=teacher.chunk, mixture=0.0
    )
    assert batch is not None and len(batch.factor_mask.sum(1).unique()) > 1
    batch = replace(batch, group=torch.zeros_like(batch.group))

    def algorithm(accumulate: int) -> Opd | Grpo | Ppo | Dagger:
        policy = counting_policy()
        if name == "opd":
            return Opd(policy, OpdConfig.model_validate(ONE_STEP), teacher, accumulate=accumulate)
        if name == "grpo":
            return Grpo(policy, GrpoConfig.model_validate(ONE_STEP), None, accumulate=accumulate)
        if name == "ppo":
            return Ppo(policy, PpoConfig.model_validate(ONE_STEP), accumulate=accumulate)
        return Dagger(policy, DaggerConfig.model_validate(ONE_STEP), teacher, accumulate=accumulate)

    whole, parts = (gradient(algorithm(n), batch) for n in (1, 4))
    assert torch.dot(whole, parts) > 1 - 1e-6


def test_accumulation_keeps_the_value_heads_gradient_with_ragged_chunks() -> None:
    episodes = [Episode("count", seed) for seed in (1, 2, 4, 99)]
    batch, _ = run_episodes(counting_policy(), CountingEnv(2), episodes, mode="stochastic", seed=0, keep=True)
    assert batch is not None
    gradients = []
    for accumulate in (1, 4):
        algorithm = Ppo(counting_policy(), PpoConfig.model_validate(ONE_STEP | {"grad_clip": 1e9}), accumulate=accumulate)
        torch.manual_seed(1)
        torch.nn.init.normal_(algorithm.critic.net[-1].weight)
        algorithm.update(batch, torch.Generator().manual_seed(0))
        gradients.append(torch.cat([p.grad.flatten() for p in algorithm.critic.parameters() if p.grad is not None]))
    assert torch.allclose(*gradients, rtol=1e-4, atol=1e-7)


def test_accumulation_keeps_sfts_gradient_where_chunks_pass_the_end() -> None:
    obs = CountingEnv(4).reset(range(4), range(4), ["count"] * 4)
    chunk, mask = torch.rand(4, 4, 1), torch.arange(4) < torch.tensor([[1], [2], [4], [4]])
    gradients = []
    for accumulate in (1, 4):
        algorithm = Sft(counting_policy(), SftConfig(shift_px=0, grad_clip=1e9), accumulate)
        algorithm.update(obs, chunk, mask, 0, torch.Generator().manual_seed(0))
        gradients.append(torch.cat([p.grad.flatten() for p in algorithm.policy.parameters() if p.grad is not None]))
    assert torch.allclose(*gradients, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("settings", [PPO, GrpoConfig(), OpdConfig(), DaggerConfig()])
def test_presets_of_every_algorithm_round_trip(settings: OnPolicyConfig) -> None:
    assert type(settings).model_validate(settings.model_dump(mode="json")) == settings
