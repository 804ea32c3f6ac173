"""Denoising chains against closed forms: Gaussian data, whose exact denoiser is known, and diffusers' own steps."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

from policies.config import DiffusionHeadConfig, FlowHeadConfig
from policies.factors import Decision
from policies.heads.chain import Network, Output, Process, chain_factors, sample_chain
from policies.heads.diffusion import DiffusionProcess
from policies.heads.flow import FlowProcess
from policies.interface import PolicyError

MEAN, STD = 0.4, 0.3


def exact(process: Process, mean: float = MEAN, std: float = STD) -> Network:
    """The denoiser of data N(mean, std²). Its step index follows from the time."""
    times = process.time(torch.arange(process.steps))

    def network(x: torch.Tensor, time: torch.Tensor) -> Output:
        index = torch.searchsorted(-times, -time - 1e-6)  # times fall
        return Output(process.implied(x, index, torch.full_like(x, mean), std))

    return network


def draw(process: Process, count: int, mode: str = "stochastic", stochastic: str = "all", seed: int = 0) -> tuple[torch.Tensor, Decision]:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, 1, 1, generator=generator)
    return sample_chain(process, exact(process), noise, mode, stochastic, 1.0, generator)  # type: ignore[arg-type]


def flow(steps: int, noise: str = "flow_sde", level: float = 0.5, **settings: float) -> FlowProcess:
    return FlowProcess(FlowHeadConfig.model_validate({"steps": steps, "noise": noise, "noise_level": level} | settings))


def test_flow_sde_reproduces_mean_and_standard_deviation_as_steps_grow() -> None:
    errors = []
    for steps in (4, 20, 200):
        chunk, _ = draw(flow(steps, min_std=1e-6), 20_000)
        errors.append(abs(chunk.std().item() - STD))
        assert chunk.mean().item() == pytest.approx(MEAN, abs=0.01)
    assert errors[0] > errors[1] > 0.01 > errors[2]
    assert errors[2] < 0.006  # sampling error of a standard deviation of 0.3 over 20,000 draws: 0.0015


def test_the_ode_reproduces_them_too_and_cps_does_not() -> None:
    chunk, decision = draw(flow(200), 20_000, mode="greedy")
    assert (chunk.mean().item(), chunk.std().item()) == pytest.approx((MEAN, STD), abs=0.006)
    assert decision.values["index"].shape == (20_000, 0)
    chunk, _ = draw(flow(1000, noise="cps", min_std=1e-6), 20_000)
    assert chunk.std().item() == pytest.approx(0.276, abs=0.004)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_diffusion_reproduces_gaussian_data(sampler: str) -> None:
    process = DiffusionProcess(DiffusionHeadConfig.model_validate({"steps": 100, "sampler": sampler, "min_std": 1e-6}))
    chunk, _ = draw(process, 20_000)
    assert (chunk.mean().item(), chunk.std().item()) == pytest.approx((MEAN, STD), abs=0.02)


@pytest.mark.parametrize("schedule", ["squaredcos_cap_v2", "linear"])
@pytest.mark.parametrize(("sampler", "eta"), [("ddim", 0.0), ("ddim", 0.5), ("ddim", 1.0), ("ddpm", 1.0)])
def test_diffusion_steps_are_those_of_diffusers(sampler: str, eta: float, schedule: str) -> None:
    config = DiffusionHeadConfig.model_validate({"sampler": sampler, "eta": eta, "schedule": schedule, "min_std": 1e-9})
    process = DiffusionProcess(config)
    kind = DDPMScheduler if sampler == "ddpm" else DDIMScheduler
    theirs = kind(num_train_timesteps=100, beta_schedule=schedule, timestep_spacing="leading")
    theirs.set_timesteps(10)
    generator = torch.Generator().manual_seed(0)
    x, predicted, drawn = torch.randn(3, 5, 4, 2, generator=generator)
    for step, timestep in enumerate(theirs.timesteps):
        index = torch.full((5,), step)
        mean, std = process.transition(x, index, Output(predicted))
        if sampler == "ddim":
            expected = theirs.step(predicted, timestep, x, eta=eta, variance_noise=drawn).prev_sample
            assert torch.allclose(mean + std * drawn, expected, atol=1e-5)
            if eta == 0:
                assert torch.allclose(process.deterministic(x, index, Output(predicted)), expected, atol=1e-5)
        else:
            seeded = torch.Generator().manual_seed(step)
            expected = theirs.step(predicted, timestep, x, generator=seeded).prev_sample
            noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(step)) if timestep > 0 else 0
            assert torch.allclose(mean + std * noise, expected, atol=1e-5)


@pytest.mark.parametrize(
    "process",
    [
        flow(4, "cps", min_std=0.03),
        DiffusionProcess(DiffusionHeadConfig(min_std=0.03)),
        DiffusionProcess(DiffusionHeadConfig(sampler="ddpm", min_std=0.03)),
    ],
    ids=["cps", "ddim", "ddpm"],
)
def test_the_last_step_has_a_floor_where_its_schedule_has_no_noise(process: Process) -> None:
    x = torch.zeros(1, 1, 1)
    stds = [process.transition(x, torch.tensor([step]), Output(x)).std.item() for step in range(process.steps)]
    assert stds[-1] == pytest.approx(0.03)
    assert stds[0] > 0.3


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
@pytest.mark.parametrize("step", [4, 9])
def test_a_student_outside_the_action_range_is_pulled_back_to_the_teacher(sampler: str, step: int) -> None:
    """x̂0 is clamped to ±1; descent on the KL from x̂0 = 1.2 to a teacher at −0.5 must not stop or go the other way."""
    process = DiffusionProcess(DiffusionHeadConfig.model_validate({"sampler": sampler}))
    x, index = torch.full((1, 1, 1), 0.4), torch.tensor([step])
    now = process._alphas(index, x)[0]

    def noise_of(clean: float) -> torch.Tensor:
        return (x - now.sqrt() * clean) / (1 - now).sqrt()

    decision = Decision({"before": x[:, None], "after": x[:, None], "index": index[:, None]}, "stochastic", 1.0)
    elements = torch.ones(1, 1, 1, dtype=torch.bool)
    student = noise_of(1.2).requires_grad_()
    teacher = chain_factors(process, lambda x, t: Output(noise_of(-0.5)), decision, elements)
    kl = chain_factors(process, lambda x, t: Output(student), decision, elements).kl(teacher, "reverse").sum()
    towards = (noise_of(-0.5) - noise_of(1.2)).sign()
    assert torch.equal(torch.autograd.grad(kl, student)[0].sign(), -towards)


def test_flow_sde_kl_is_a_weighted_velocity_distance() -> None:
    # δ [1 + σ²(1−τ)/2τ]² ‖Δv‖² / 2σ² at S = 4, s = 0.5; σ² = s² τ/(1−τ), and s² τ/δ at the first step
    process, delta = flow(4, min_std=1e-6), 0.25
    x, v = torch.zeros(1, 1, 1), torch.ones(1, 1, 1)
    weights = []
    for step, tau in enumerate((1.0, 0.75, 0.5, 0.25)):
        sigma2 = 0.25 * tau / (delta if step == 0 else 1 - tau)
        expected = delta * (1 + sigma2 * (1 - tau) / (2 * tau)) ** 2 / (2 * sigma2)
        index = torch.tensor([[step]])
        decision = Decision({"before": x[:, None], "after": x[:, None], "index": index}, "stochastic", 1.0)
        elements = torch.ones(1, 1, 1, dtype=torch.bool)
        zero, one = (chain_factors(process, lambda x, t, value=value: Output(value), decision, elements) for value in (0 * v, v))
        assert zero.kl(one, "reverse").item() == pytest.approx(expected, rel=1e-5)
        assert zero.kl(one, "forward").item() == pytest.approx(expected, rel=1e-5)
        assert zero.distance(one).item() == pytest.approx(0.5, rel=1e-5)
        weights.append(expected)
    assert weights[-1] / weights[0] == pytest.approx(15, abs=0.5)


@pytest.mark.parametrize(
    "process",
    [
        flow(5),
        flow(5, "cps"),
        DiffusionProcess(DiffusionHeadConfig(steps=5)),
        DiffusionProcess(DiffusionHeadConfig(steps=5, sampler="ddpm")),
    ],
    ids=["flow_sde", "cps", "ddim", "ddpm"],
)
def test_sum_of_step_kls_is_the_chain_log_ratio(process: Process) -> None:
    chunk, decision = draw(process, 50_000)
    elements = torch.ones(chunk.shape, dtype=torch.bool)
    student, teacher = (chain_factors(process, exact(process, mean), decision, elements) for mean in (MEAN, MEAN + 0.1))
    log_ratio = (student.log_prob() - teacher.log_prob()).sum(1)
    kl = student.kl(teacher, "reverse").sum(1)
    error = (log_ratio - kl).std() / len(kl) ** 0.5
    assert kl.mean() > 10 * error
    assert (log_ratio - kl).mean().abs() < 4 * error


def test_one_stochastic_step_follows_the_ode_elsewhere_and_is_uniform() -> None:
    process = flow(4)
    noise = torch.randn(8000, 1, 1, generator=torch.Generator().manual_seed(1))
    chunk, decision = sample_chain(process, exact(process), noise, "stochastic", "one", 1.0, torch.Generator().manual_seed(0))
    index = decision.values["index"]
    assert index.shape == (8000, 1)
    assert (torch.bincount(index[:, 0]) / 8000).tolist() == pytest.approx([0.25] * 4, abs=0.02)
    network, x = exact(process), noise
    for step in range(4):
        rows = index[:, 0] == step
        assert torch.equal(decision.values["before"][rows, 0], x[rows])
        at = torch.full((8000,), step)
        ode = process.deterministic(x, at, network(x, process.time(at)))
        x = torch.where(rows[:, None, None], decision.values["after"][:, 0], ode)
    assert torch.equal(x, chunk)


def test_scoring_finds_the_noise_that_was_drawn_at_the_temperature() -> None:
    process = flow(4)
    noise = torch.randn(20_000, 1, 1, generator=torch.Generator().manual_seed(1))
    chunk, decision = sample_chain(process, exact(process), noise, "stochastic", "all", 4.0, torch.Generator().manual_seed(0))
    factors = chain_factors(process, exact(process), decision, torch.ones(chunk.shape, dtype=torch.bool))
    z = (factors.value - factors.mean) / factors.std
    assert z.std().item() == pytest.approx(1, abs=0.01)
    plain = [process.transition(noise[:1], torch.tensor([step]), Output(noise[:1])).std.item() for step in range(4)]
    assert factors.std[0, :, 0, 0].tolist() == pytest.approx([2 * std for std in plain])  # T = 4: variance times 4


def test_greedy_decisions_cannot_be_scored_and_nan_is_refused() -> None:
    process = flow(4)
    _, decision = draw(process, 3, mode="greedy")
    with pytest.raises(PolicyError, match="greedy decision has nothing to score"):
        chain_factors(process, exact(process), decision, torch.ones(3, 1, 1, dtype=torch.bool))
    with pytest.raises(PolicyError, match="NaN"):
        sample_chain(process, lambda x, t: Output(x * math.nan), torch.zeros(1, 1, 1), "greedy", "all", 1.0, None)
