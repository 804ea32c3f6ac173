"""Real-time chunking: the weights and a step by hand, and a flow policy that continues what the robot will do anyway."""

from __future__ import annotations

import math

import pytest
import torch
from lerobot.policies.rtc.configuration_rtc import RTCConfig

from policies.config import DiffusionHeadConfig, FlowHeadConfig, HeadConfig, PolicyConfig, TokenHeadConfig
from policies.heads import guidance
from policies.heads.chain import Network, Output, greedy_chain
from policies.heads.flow import FlowProcess
from policies.heads.guidance import LIMIT, guided_chain, weights
from policies.interface import PolicyError
from policies.lerobot_rtc import lerobot_chain
from policies.vla import VlaPolicy
from tests.policies.helpers import SPEC, observations


def make(head: HeadConfig) -> VlaPolicy:
    torch.manual_seed(0)
    return VlaPolicy(PolicyConfig(head=head), SPEC)


def test_weights_by_hand() -> None:
    fading = [x * (math.exp(x) - 1) / (math.e - 1) for x in (2 / 3, 1 / 3)]
    assert weights(6, 4, 2).tolist() == pytest.approx([1, 1, *fading, 0, 0])
    assert weights(3, 3, 3).tolist() == [1, 1, 1]
    assert weights(3, 0, 0).tolist() == [0, 0, 0]


def test_a_step_by_hand() -> None:
    """One denoising step with velocity v = x / 4: x̂ = 3x/4, so the pull is 3/4 (Y − x̂), at full strength β."""
    noise, wanted = torch.tensor([[[1.0], [2.0]]]), torch.tensor([[[0.5]]])
    chunk = guided_chain(FlowProcess(FlowHeadConfig(steps=1, noise="cps")), lambda x, _: Output(x / 4), noise, wanted, 1)
    pull = 0.75 * (0.5 - 0.75)
    assert chunk.flatten().tolist() == pytest.approx([0.75 + LIMIT * pull, 1.5])


def test_without_a_prefix_it_is_the_greedy_chain() -> None:
    process, noise = FlowProcess(FlowHeadConfig(steps=5)), torch.randn(3, 4, 2)
    network = lambda x, time: Output(x.sin() + time[:, None, None])  # noqa: E731
    assert torch.equal(guided_chain(process, network, noise, torch.zeros(3, 0, 2), 0), greedy_chain(process, network, noise))


def test_committed_steps_are_met_where_the_policy_allows_them() -> None:
    """Chunks N(0, 1): from any noise the committed steps come close to the prefix, and the free ones stay where they were."""
    process = FlowProcess(FlowHeadConfig(steps=50))
    noise = torch.randn((64, 6, 2), generator=torch.Generator().manual_seed(0))

    def network(x: torch.Tensor, time: torch.Tensor) -> Output:
        return Output(process.implied(x, torch.round((1 - time) * 50).long(), torch.zeros(()), 1.0))

    wanted = torch.linspace(-1, 1, 3).expand(64, 2, 3).mT
    free, drawn = greedy_chain(process, network, noise), guided_chain(process, network, noise, wanted, 3)
    before, after = ((chunk[:, :3] - wanted).abs().mean() for chunk in (free, drawn))
    assert after < 0.1 * before
    assert torch.allclose(drawn[:, 3:], free[:, 3:], atol=1e-5)


def test_a_flow_policy_continues_a_chunk() -> None:
    policy = make(FlowHeadConfig(steps=4))
    context, noise = policy.encode(observations(3)), torch.randn(3, 4, 2)
    own = policy.greedy(context, noise)
    wanted = (own + 0.2).clamp(-1, 1)[:, :3].detach()
    with torch.no_grad():
        chunk = policy.guided(context, noise, wanted, 2)
    assert policy.takes_prefix and not chunk.requires_grad
    assert (chunk[:, :2] - wanted[:, :2]).abs().mean() < 0.5 * (own[:, :2] - wanted[:, :2]).abs().mean()


@pytest.mark.parametrize("head", [TokenHeadConfig(), DiffusionHeadConfig()])
def test_others_refuse(head: HeadConfig) -> None:
    policy = make(head)
    assert not policy.takes_prefix
    with pytest.raises(PolicyError, match="real-time chunking needs a flow head"):
        policy.guided(policy.encode(observations(1)), torch.zeros(1, 4, 2), torch.zeros(1, 2, 2), 1)


def test_lerobots_guidance_is_ours_where_the_velocity_does_not_depend_on_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the Jacobian, which it leaves out, is one; and where the velocity depends on the chunk the two differ."""
    monkeypatch.setattr(guidance, "LIMIT", RTCConfig().max_guidance_weight)
    process, noise, wanted = FlowProcess(FlowHeadConfig(steps=5)), torch.randn(2, 6, 3), torch.rand(2, 4, 3)

    def both(network: Network) -> tuple[torch.Tensor, torch.Tensor]:
        return guided_chain(process, network, noise, wanted, 2), lerobot_chain(process, network, noise, wanted, 2)

    ours, lerobots = both(lambda x, time: Output(torch.ones_like(x) * time[:, None, None]))
    torch.testing.assert_close(lerobots, ours)
    assert not torch.allclose(ours, greedy_chain(process, lambda x, time: Output(torch.ones_like(x) * time[:, None, None]), noise))
    ours, lerobots = both(lambda x, time: Output(x.sin()))
    assert (ours - lerobots).abs().max() > 1e-2
