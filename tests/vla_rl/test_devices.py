"""Whole runs on a second device: nothing stays on the CPU that must not, and the numbers are the CPU's but for rounding."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from policies.config import DiffusionHeadConfig, FlowHeadConfig, GaussianHeadConfig, HeadConfig, PolicyConfig, TokenHeadConfig
from policies.folder import make_policy, save_policy
from policies.interface import Observation
from policies.vla import VlaPolicy
from tests.policies.tiny_vlm import make_vlm, tiny_smolvla
from tests.second_device import second_device
from tests.vla_rl.counting import SPEC, CountingEnv
from tests.vla_rl.test_training import demos, metrics, weights
from vla_rl.algorithms.sft import Sft
from vla_rl.compute import prepare
from vla_rl.config import AlgorithmConfig, ComputeConfig, Config, DaggerConfig, GrpoConfig, OpdConfig, PpoConfig, SftConfig, SimConfig
from vla_rl.loops import Algorithm, offline, on_policy
from vla_rl.run import Run
from vla_rl.train import build

SMALL = {"updates": 1, "episodes": 8, "passes": 2, "minibatch": 8, "validate_episodes": 2}
TOKENS, FLOW = TokenHeadConfig(bins=5), FlowHeadConfig(stochastic="all")
RUNS: dict[str, tuple[HeadConfig, AlgorithmConfig, str | None]] = {
    "sft": (TOKENS, SftConfig(steps=3, batch=8, log_every=1, state_dropout=0.3), None),
    "sft flow": (FLOW, SftConfig(steps=3, batch=8, log_every=1), None),
    "opd": (TOKENS, OpdConfig.model_validate(SMALL), "teacher"),
    "opd by the expert": (FLOW, OpdConfig.model_validate(SMALL), "expert"),
    "opd beyond": (TOKENS, OpdConfig.model_validate(SMALL | {"reward_scale": 1.25}), "teacher"),
    "opd sampled": (
        FLOW,
        OpdConfig.model_validate(SMALL | {"estimator": "sampled", "baseline": "kl", "credit": "to_go"}),
        "teacher",
    ),
    "opd diffusion": (DiffusionHeadConfig(steps=4), OpdConfig.model_validate(SMALL | {"signal": "distance"}), "teacher"),
    "grpo": (TOKENS, GrpoConfig.model_validate(SMALL | {"group": 4, "reference_kl": 0.1}), None),
    "dgrpo": (FLOW, GrpoConfig.model_validate(SMALL | {"group": 4, "distill": 0.5}), "teacher"),
    "ppo": (FLOW, PpoConfig.model_validate(SMALL | {"reward": "dense", "loss_mean": "rollout"}), None),
    "ppo with entropy bonus": (TOKENS, PpoConfig.model_validate(SMALL | {"reward": "dense", "entropy_weight": 0.1}), None),
    "dagger": (GaussianHeadConfig(), DaggerConfig.model_validate(SMALL | {"mixture": 0.5}), "teacher"),
}


class EverySecond(CountingEnv):
    """Every second environment succeeds at step 5, whatever the seed, so that groups are mixed."""

    def reset(self, env_ids: Sequence[int], seeds: Sequence[int], tasks: Sequence[str]) -> Observation:
        return super().reset(env_ids, [5 if env_id % 2 else 99 for env_id in env_ids], tasks)


def policy(head: HeadConfig, seed: int = 0) -> VlaPolicy:
    torch.manual_seed(seed)
    return VlaPolicy(PolicyConfig(head=head, chunk=4, executed=3), SPEC)


def trained(head: HeadConfig, settings: AlgorithmConfig, teacher: str | None, folder: Path, compute: ComputeConfig) -> Algorithm:
    """What `vla-rl train` does with a student and a teacher of random weights."""
    save_policy(policy(head), folder / "student")
    save_policy(policy(head, seed=1), folder / "teacher")
    named = str(folder / "teacher") if teacher == "teacher" else teacher
    config = Config(algorithm=settings, sim=SimConfig(tasks=CountingEnv.tasks), init=folder / "student", teacher=named, compute=compute)
    algorithm = build(config, prepare(policy(head), compute))
    run = Run(folder / "run", config, resume=False)
    if isinstance(algorithm, Sft):
        offline(run, algorithm, demos())
    else:
        on_policy(run, algorithm, EverySecond(4))
    return algorithm


@pytest.mark.parametrize("name", RUNS)
def test_a_run_there_has_every_tensor_in_its_place_and_nearly_the_cpus_numbers(name: str, tmp_path: Path) -> None:
    here = trained(*RUNS[name], tmp_path / "cpu", ComputeConfig())
    with second_device():
        there = trained(*RUNS[name], tmp_path / "meta", ComputeConfig(device="meta"))
        modules = [there.policy, there.critic] if there.critic else [there.policy]
        assert {value.device.type for module in modules for value in module.state_dict().values()} == {"meta"}
        moved = weights(there.policy).cpu()
    before = weights(policy(RUNS[name][0]))
    assert torch.nn.functional.cosine_similarity(moved - before, weights(here.policy) - before, dim=0) > 0.99
    rows = [metrics(tmp_path / place / "run")[-1] for place in ("cpu", "meta")]
    assert rows[1] == pytest.approx(rows[0], rel=0.01, abs=1e-4)


def test_the_second_device_refuses_what_cuda_would() -> None:
    with second_device():
        there, here = torch.ones(3, device="meta"), torch.ones(3)
        for mixed in (
            lambda: there.index_put((torch.tensor([0]),), here[:1]),
            lambda: there + here,
            lambda: here[there > 0],
            lambda: torch.randn(3, device="meta", generator=torch.Generator()),
        ):
            with pytest.raises(RuntimeError, match=r"meta|of its device"):
                mixed()
        with pytest.raises((RuntimeError, TypeError)):
            there.numpy()
        assert (there + 1).sum().item() == 6


def test_smolvla_has_every_tensor_in_its_place_too(tmp_path: Path) -> None:
    pytest.importorskip("num2words", reason="SmolVLA needs the extra 'lerobot-vla'")
    settings = tiny_smolvla(make_vlm(tmp_path), steps=2)
    obs, mask = CountingEnv(3).reset(range(3), range(3), ["count"] * 3), torch.ones(3, 4, 1, dtype=torch.bool)
    results = []
    for place in ("cpu", "meta"):
        with second_device() if place == "meta" else nullcontext():
            torch.manual_seed(0)
            smolvla = make_policy(settings, SPEC).to(place)
            context = smolvla.encode(obs)
            chunk, decision = smolvla.sample(context, "stochastic", 1.0, torch.Generator().manual_seed(0))
            chunk, there = chunk.detach().to(place), mask.to(place)  # LeRobot's postprocessor leaves actions on the CPU
            log_prob = smolvla.factors(context, decision, there).log_prob()
            expert = smolvla.implied_factors(chunk, 0.1, decision, there).log_prob()
            loss = smolvla.sft_loss(context, chunk, there, torch.ones(3, device=place), torch.Generator().manual_seed(1))
            (loss + log_prob.sum()).backward()
            assert {tensor.device.type for tensor in (log_prob, expert, loss)} == {place}
            results.append([value.detach().cpu() for value in (chunk, log_prob, expert, loss)])
    for here, moved in zip(*results, strict=True):
        assert torch.allclose(here, moved, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", ["sft", "opd", "ppo"])
def test_a_step_in_bf16_goes_the_same_way_and_keeps_weights_in_fp32(name: str, tmp_path: Path) -> None:
    before = weights(policy(RUNS[name][0]))
    whole, half = (trained(*RUNS[name], tmp_path / kind, ComputeConfig.model_validate({"precision": kind})) for kind in ("fp32", "bf16"))
    assert weights(half.policy).dtype == torch.float32
    steps = [weights(algorithm.policy) - before for algorithm in (whole, half)]
    assert not torch.equal(*steps)
    assert torch.nn.functional.cosine_similarity(*steps, dim=0) > 0.8
