"""Every head behind the policy: the contract, learning, folders, and devices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch._subclasses.fake_tensor import FakeTensorMode

from policies.config import (
    DiffusionHeadConfig,
    FlowHeadConfig,
    GaussianHeadConfig,
    HeadConfig,
    MeanFlowHeadConfig,
    PolicyConfig,
    TokenHeadConfig,
)
from policies.folder import load_policy, save_policy
from policies.heads import chain, draw, gaussian, meanflow, tokens
from policies.heads.meanflow import MeanFlowHead
from policies.interface import PolicyError
from policies.vla import VlaPolicy
from tests.policies.helpers import SPEC, observations

HEADS: dict[str, HeadConfig] = {
    "tokens": TokenHeadConfig(bins=11),
    "gaussian": GaussianHeadConfig(),
    "flow": FlowHeadConfig(),
    "flow-all": FlowHeadConfig(stochastic="all"),
    "flow-cps": FlowHeadConfig(noise="cps"),
    "flow-learned": FlowHeadConfig(noise="learned", stochastic="all"),
    "diffusion": DiffusionHeadConfig(steps=5, stochastic="all"),
    "ddpm": DiffusionHeadConfig(steps=5, sampler="ddpm"),
    "meanflow": MeanFlowHeadConfig(),
}
MASK = torch.ones(6, 4, 2, dtype=torch.bool)
each_head = pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)


def make(head: HeadConfig, seed: int = 0) -> VlaPolicy:
    torch.manual_seed(seed)
    return VlaPolicy(PolicyConfig(head=head), SPEC)


@each_head
def test_a_decision_is_scored_by_its_own_policy_and_only_by_what_was_executed(head: HeadConfig) -> None:
    policy = make(head)
    context = policy.encode(observations(6))
    chunk, decision = policy.sample(context, "stochastic", 1.3, torch.Generator().manual_seed(0))
    factors = policy.factors(context, decision, MASK)
    assert chunk.shape == (6, 4, 2)
    assert factors.log_prob().shape == factors.entropy().shape == factors.mask.shape
    assert factors.kl(factors, "reverse").abs().max() < 1e-6
    short = MASK.clone()
    short[:, 2:] = False
    cut = policy.factors(context, decision, short)
    assert torch.where(cut.mask, cut.log_prob(), 0).sum() != torch.where(factors.mask, factors.log_prob(), 0).sum()
    none = policy.factors(context, decision, torch.zeros_like(MASK))
    assert not none.mask.any()


@each_head
def test_the_greedy_chunk_is_a_function_of_its_noise(head: HeadConfig) -> None:
    policy = make(head)
    context = policy.encode(observations(3))
    chunk, _ = policy.sample(context, "greedy", 1.0, torch.Generator().manual_seed(5))
    if policy.noise_shape is None:
        assert torch.equal(policy.greedy(context, None), chunk)
        return
    noise = torch.randn((3, *policy.noise_shape), generator=torch.Generator().manual_seed(5))
    assert torch.equal(policy.greedy(context, noise), chunk)
    assert not torch.equal(policy.greedy(context, -noise), chunk)
    with pytest.raises(PolicyError, match="starts from noise"):
        policy.greedy(context, None)


@each_head
def test_sampling_repeats_and_rows_do_not_mix(head: HeadConfig) -> None:
    policy = make(head)
    context = policy.encode(observations(6))
    chunks = [policy.sample(context, "stochastic", 1.0, torch.Generator().manual_seed(seed))[0] for seed in (0, 0, 1)]
    assert torch.equal(chunks[0], chunks[1])
    assert not torch.equal(chunks[0], chunks[2])
    _, decision = policy.sample(context, "stochastic", 1.0, torch.Generator().manual_seed(0))
    index = torch.tensor([4, 1])
    whole, part = policy.factors(context, decision, MASK), policy.factors(context[index], decision[index], MASK[index])
    assert torch.allclose(whole.log_prob()[index], part.log_prob(), atol=1e-4)
    assert torch.allclose(whole[index].log_prob(), part.log_prob(), atol=1e-4)
    assert torch.allclose(type(whole).cat([whole[index], part]).entropy()[:2], part.entropy(), atol=1e-4)


@pytest.mark.parametrize("name", ["tokens", "gaussian", "flow", "diffusion", "meanflow"])
def test_sft_learns_one_batch(name: str) -> None:
    policy, generator = make(HEADS[name]), torch.Generator().manual_seed(0)
    obs = {entry: np.repeat(value, 16, 0) for entry, value in observations(3).items()}
    chunk = torch.rand(3, 4, 2, generator=generator).repeat_interleave(16, 0) * torch.tensor([0.2, 1.0]) - torch.tensor([0.1, 0.0])
    optimizer = torch.optim.AdamW(policy.parameters(), lr=2e-3)

    def error() -> float:
        greedy, _ = policy.sample(policy.encode(obs), "greedy", 1.0, torch.Generator().manual_seed(1))
        return ((greedy - chunk).abs() / torch.tensor([0.1, 0.5])).mean().item()

    before = error()
    for _ in range(60):
        loss = policy.sft_loss(policy.encode(obs), chunk, MASK[:1].expand(48, -1, -1), torch.ones(48), generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert error() < 0.5 * before


@each_head
def test_the_expert_implies_factors_that_pull_towards_its_chunk(head: HeadConfig) -> None:
    policy = make(head)
    with torch.no_grad():
        _, decision = policy.sample(policy.encode(observations(6)), "stochastic", 1.0, torch.Generator().manual_seed(0))
    if "expert" not in head.supplies:
        with pytest.raises(PolicyError, match="does not imply a learned noise level"):
            policy.implied_factors(torch.zeros(6, 4, 2), 0.2, decision, MASK)
        return
    near, far = (policy.implied_factors(torch.full((6, 4, 2), value), 0.2, decision, MASK) for value in (0.05, 0.06))
    assert near.kl(near, "reverse").abs().max() < 1e-6
    assert (near.kl(far, "reverse").sum() > 0) and torch.isfinite(near.log_prob()).all()
    optimizer = torch.optim.Adam(policy.parameters(), lr=1e-3)
    kls = []
    for _ in range(30):
        kls.append(policy.factors(policy.encode(observations(6)), decision, MASK).kl(near, "reverse").sum())
        optimizer.zero_grad()
        kls[-1].backward()
        optimizer.step()
    assert kls[-1] < 0.7 * kls[0]


@pytest.mark.parametrize(
    "head", [FlowHeadConfig(noise_level=0), FlowHeadConfig(noise="learned", noise_level=0), DiffusionHeadConfig(eta=0),
             MeanFlowHeadConfig(exploration_std=0)], ids=str
)  # fmt: skip
def test_a_head_without_noise_acts_greedily_and_has_no_likelihood(head: HeadConfig) -> None:
    policy = make(head)
    context = policy.encode(observations(6))
    drawn, decision = policy.sample(context, "stochastic", 1.0, torch.Generator().manual_seed(0))
    greedy, _ = policy.sample(context, "greedy", 1.0, torch.Generator().manual_seed(0))
    assert torch.equal(drawn, greedy) and decision.mode == "greedy"
    with pytest.raises(PolicyError, match="nothing to score"):
        policy.factors(context, decision, MASK)


@pytest.mark.parametrize("head", [GaussianHeadConfig(min_std=0.05), FlowHeadConfig(noise="learned", stochastic="all")], ids=str)
def test_a_standard_deviation_at_its_floor_can_grow_again(head: HeadConfig) -> None:
    policy = make(head)
    with torch.no_grad():
        low = policy.head.log_std if isinstance(head, GaussianHeadConfig) else policy.head.log_std.bias
        low.fill_(-8.0)
    _, decision = policy.sample(policy.encode(observations(6)), "stochastic", 1.0, torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam([low], lr=0.1)
    entropies = []
    for _ in range(80):
        entropies.append(policy.factors(policy.encode(observations(6)), decision, MASK).entropy().mean())
        optimizer.zero_grad()
        (-entropies[-1]).backward()
        optimizer.step()
    assert entropies[-1] > entropies[0] + 5


@each_head
def test_folder_round_trip_acts_identically(head: HeadConfig, tmp_path: Path) -> None:
    policy = make(head)
    save_policy(policy, tmp_path / "p")
    chunks = [
        p.sample(p.encode(observations(6)), "stochastic", 1.0, torch.Generator().manual_seed(0))[0]
        for p in (policy, load_policy(tmp_path / "p"))
    ]
    assert torch.equal(*chunks)


@each_head
def test_nothing_is_left_on_the_cpu(head: HeadConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a fake CUDA device every operation checks that its tensors are on one device, without computing anything."""
    for module in (chain, draw, gaussian, meanflow, tokens):
        monkeypatch.setattr(module, "require_finite", lambda value: None)  # the one check that reads values
    with FakeTensorMode(allow_non_fake_inputs=True):
        with torch.device("cuda"):
            policy = VlaPolicy(PolicyConfig(head=head), SPEC)
        context = policy.encode(observations(6))
        chunk, decision = policy.sample(context, "stochastic", 1.0, torch.Generator().manual_seed(0))
        mask = MASK.to("cuda")
        factors = policy.factors(context, decision, mask)
        for result in (chunk, factors.log_prob(), factors.entropy(), factors.kl(factors.detach(), "reverse"), policy.pooled(context)):
            assert result.device.type == "cuda"
        if "expert" in head.supplies:
            assert policy.implied_factors(chunk.detach(), 0.1, decision, mask).log_prob().device.type == "cuda"
        assert policy.sft_loss(context, chunk.detach(), mask, torch.ones(6, device="cuda"), torch.Generator()).device.type == "cuda"


def test_nan_draws_nothing() -> None:
    for head in HEADS.values():
        policy = make(head)
        with torch.no_grad():
            policy.queries.fill_(torch.nan)
        with pytest.raises(PolicyError, match="NaN or infinite"):
            policy.sample(policy.encode(observations(2)), "greedy", 1.0, None)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "flow", "noise": "flow_sde", "steps": 1}, "flow_sde needs at least 2 steps"),
        ({"name": "flow", "noise": "cps", "noise_level": 1.5}, r"noise_level of cps must lie in 0\.\.1"),
        ({"name": "diffusion", "steps": 7}, "steps must divide train_steps=100, got 7"),
        ({"name": "tokens", "steps": 4}, "Extra inputs are not permitted"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PolicyConfig.model_validate({"head": settings})


class _Average(torch.nn.Module):
    """The exact average velocity of data that is one point: constant along each path."""

    def forward(self, features: torch.Tensor, z: torch.Tensor, r: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return (z - 0.3) / t[:, None, None]


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_meanflow_identity_holds_for_a_single_datum(guidance: float) -> None:
    head = MeanFlowHead(8, 2, 2, 4, MeanFlowHeadConfig(guidance=guidance, same_time=0.0))
    head.velocity = _Average()  # type: ignore[assignment]
    features, chunk = torch.zeros(50, 4, 8), torch.full((50, 4, 2), 0.3)
    loss = head.loss(features, chunk, torch.ones(50, 4, 2, dtype=torch.bool), torch.ones(50), torch.Generator().manual_seed(0))
    assert loss.item() < 1e-4
    sample, _ = head.sample(features, "greedy", 1.0, torch.Generator().manual_seed(0))
    assert torch.allclose(sample, chunk, atol=1e-6)


def test_meanflow_with_equal_times_is_flow_matching() -> None:
    torch.manual_seed(0)
    head = MeanFlowHead(8, 2, 2, 4, MeanFlowHeadConfig(same_time=1.0))
    features, chunk = torch.randn(50, 4, 8), torch.randn(50, 4, 2)
    loss = head.loss(features, chunk, torch.ones(50, 4, 2, dtype=torch.bool), torch.ones(50), torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(chunk.shape, generator=generator)
    t = (torch.randn(2, 50, generator=generator) - 0.4).sigmoid().max(0).values
    z = (1 - t[:, None, None]) * chunk + t[:, None, None] * noise
    error = (head.velocity(features, z, t, t) - (noise - chunk)) ** 2
    expected = (error * (error.mean((1, 2), keepdim=True) + 1e-3) ** -0.5).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
