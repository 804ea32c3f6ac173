"""The policy that training starts from as a reference: GRPO's KL to it, and OPD's reward scale."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from policies.config import FlowHeadConfig, PolicyConfig
from policies.folder import save_policy
from policies.interface import SpecError
from policies.vla import VlaPolicy
from tests.vla_rl.counting import SPEC, CountingEnv, counting_policy
from tests.vla_rl.test_reinforcement import ONE_STEP, batch_of, gradient
from tests.vla_rl.test_training import weights
from vla_rl.algorithms.grpo import Grpo
from vla_rl.algorithms.opd import Opd
from vla_rl.config import Config, GrpoConfig, OpdConfig, SimConfig
from vla_rl.scoring import score
from vla_rl.teachers import PolicyTeacher
from vla_rl.train import build

MIXED = [True, False, True, False]


def grpo(weight: float, reference: VlaPolicy | None, policy: VlaPolicy | None = None, **settings: float) -> Grpo:
    config = GrpoConfig.model_validate(ONE_STEP | {"reference_kl": weight} | settings)
    return Grpo(policy or counting_policy(), config, None, reference)


def test_at_the_reference_its_kl_is_zero_and_does_not_push() -> None:
    batch = batch_of(counting_policy(), MIXED)
    row = grpo(10.0, counting_policy()).update(batch, torch.Generator().manual_seed(0))
    assert row["reference_kl"] == pytest.approx(0.0, abs=1e-6)
    with_it, without = gradient(grpo(10.0, counting_policy()), batch), gradient(grpo(0.0, None), batch)
    assert torch.dot(with_it, without) > 1 - 1e-5


def test_elsewhere_the_loss_grows_by_the_weighted_mean_kl() -> None:
    batch, reference = batch_of(counting_policy(), MIXED), counting_policy(seed=1)
    expected = score(counting_policy(), batch)
    kl = expected.kl(score(reference, batch), "reverse")[expected.mask].mean().item()
    plain = grpo(0.0, None).update(batch, torch.Generator().manual_seed(0))
    row = grpo(0.5, reference).update(batch, torch.Generator().manual_seed(0))
    assert kl > 0.05
    assert row["reference_kl"] == pytest.approx(kl, rel=1e-4)
    assert row["loss"] - plain["loss"] == pytest.approx(0.5 * kl, rel=1e-3)
    assert torch.dot(gradient(grpo(0.5, reference), batch), gradient(grpo(0.0, None), batch)) < 0.999


def test_a_heavy_reference_pulls_the_policy_to_it() -> None:
    policy, reference = counting_policy(), counting_policy(seed=1)
    algorithm = grpo(100.0, reference, policy, passes=8, lr=1e-3)
    kls = [algorithm.update(batch_of(policy, MIXED, seed), torch.Generator().manual_seed(seed))["reference_kl"] for seed in range(4)]
    assert kls[-1] < 0.3 * kls[0]


@pytest.mark.parametrize("wanted", [True, False])
def test_the_reference_is_the_policy_of_init_and_only_loaded_where_it_counts(wanted: bool, tmp_path: Path) -> None:
    save_policy(counting_policy(seed=7), tmp_path / "student")
    settings = GrpoConfig(reference_kl=0.1 if wanted else 0.0)
    algorithm = build(Config(algorithm=settings, sim=SimConfig(tasks=CountingEnv.tasks), init=tmp_path / "student"), counting_policy())
    assert isinstance(algorithm, Grpo)
    assert (algorithm.reference is not None) == wanted
    if wanted:
        assert isinstance(algorithm.reference, VlaPolicy)
        assert torch.equal(weights(algorithm.reference), weights(counting_policy(seed=7)))
        before = weights(algorithm.reference).clone()
        algorithm.update(batch_of(algorithm.policy, MIXED), torch.Generator().manual_seed(0))  # type: ignore[arg-type]
        assert torch.equal(weights(algorithm.reference), before), "it stays as it is"


def test_a_head_without_a_kl_has_no_reference() -> None:
    head = FlowHeadConfig(noise_level=0)
    config = Config(algorithm=GrpoConfig(reference_kl=0.1), init=Path("student"))
    with pytest.raises(SpecError, match="grpo needs kl, log_prob, which this head does not supply"):
        build(config, VlaPolicy(PolicyConfig(head=head, chunk=4, executed=3), SPEC))


def test_opd_beyond_the_teacher_is_opd_of_the_tilted_teacher() -> None:
    batch, teacher, reference = batch_of(counting_policy(), MIXED), counting_policy(seed=1), counting_policy()
    config = OpdConfig.model_validate(ONE_STEP | {"reward_scale": 1.25})
    row = Opd(counting_policy(), config, PolicyTeacher(teacher), reference).update(batch, torch.Generator().manual_seed(0))
    student, at_teacher, at_reference = (score(policy, batch) for policy in (counting_policy(), teacher, reference))
    log_target = (1.25 * at_teacher.log_probs - 0.25 * at_reference.log_probs).log_softmax(-1)  # type: ignore[attr-defined]
    log_probs = student.log_probs  # type: ignore[attr-defined]
    by_hand = (log_probs.exp() * (log_probs - log_target)).sum(-1)[student.mask].mean().item()
    assert row["loss"] == row["reverse_kl"] == pytest.approx(by_hand, rel=1e-4)
    plain = Opd(counting_policy(), OpdConfig.model_validate(ONE_STEP), PolicyTeacher(teacher))
    assert by_hand > 1.05 * plain.update(batch, torch.Generator().manual_seed(0))["reverse_kl"]


@pytest.mark.parametrize("signal", ["distance", "constant_negative"])
def test_a_reward_scale_needs_distributions(signal: str) -> None:
    with pytest.raises(ValidationError, match=f"reward_scale needs a signal made of distributions, not '{signal}'"):
        OpdConfig.model_validate({"signal": signal, "reward_scale": 1.25})
