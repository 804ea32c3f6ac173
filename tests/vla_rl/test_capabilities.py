"""The capability table: it is the README's, and every cell trains on a small real task and improves, or refuses with its reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from policies.config import DiffusionHeadConfig, FlowHeadConfig, HeadConfig, MeanFlowHeadConfig, PolicyConfig, TokenHeadConfig
from policies.folder import Policy, save_policy
from policies.interface import PolicySpec, SpecError
from policies.vla import VlaPolicy
from tests.vla_rl.pointmass import ENV_SPEC, PointMassEnv
from vla_rl.algorithms.sft import Sft
from vla_rl.batch import Episode
from vla_rl.capabilities import ALGORITHMS, HEADS, missing, require_capabilities, table
from vla_rl.config import AlgorithmConfig, Config, DaggerConfig, GrpoConfig, OnPolicyConfig, OpdConfig, SftConfig, SimConfig
from vla_rl.loops import on_policy
from vla_rl.rollout import run_episodes
from vla_rl.run import Run
from vla_rl.train import build

CHUNK = 4
SPEC = PolicySpec(
    **{name: getattr(ENV_SPEC, name) for name in ("embodiment", "entries", "action", "control_hz")}, chunk=CHUNK, executed=CHUNK
)
EXPLORING: dict[str, HeadConfig] = HEADS | {
    "flow": FlowHeadConfig(stochastic="all", noise_level=0.7),
    "flow, learned noise": FlowHeadConfig(noise="learned", stochastic="all", noise_level=0.7),
    "diffusion": DiffusionHeadConfig(steps=5, stochastic="all", min_std=0.1),
    "meanflow": MeanFlowHeadConfig(exploration_std=0.3),
}
"""The table's heads with noise in every denoising step, and as much as a dozen updates of RL need to explore."""
IN_CI = [("tokens", "grpo"), ("flow", "opd"), ("flow", "ppo"), ("diffusion", "opd"), ("meanflow", "dagger")]
"""Cells of the default tests; `make test-slow` walks all."""


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def demonstrations(count: int) -> tuple[dict[str, np.ndarray], torch.Tensor]:
    """Observations and expert chunks of `count` episodes."""
    env, rows, chunks = PointMassEnv(1), [], []
    for seed in range(count):
        obs, done = env.reset([0], [seed], ["push"]), False
        while not done:
            rows.append({name: value[0] for name, value in obs.items()})
            chunks.append(env.expert_chunk([0], CHUNK))
            result = env.step_chunk(chunks[-1], [0])
            obs, done = result.obs, bool(result.done[0])
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}, torch.as_tensor(np.concatenate(chunks))


def student(head: HeadConfig, steps: int, episodes: int = 4) -> Policy:
    """A policy after some SFT steps on a few demonstrations."""
    torch.manual_seed(0)
    policy = VlaPolicy(PolicyConfig(head=head, chunk=CHUNK, executed=CHUNK), SPEC)
    obs, chunk = demonstrations(episodes)
    algorithm, rng = Sft(policy, SftConfig(steps=steps, warmup=5, shift_px=0)), np.random.default_rng(0)
    for step in range(steps):
        index = rng.integers(len(chunk), size=32)
        rows = {name: value[index] for name, value in obs.items()}
        algorithm.update(rows, chunk[index], torch.ones(32, CHUNK, dtype=torch.bool), step, torch.Generator().manual_seed(step))
    return policy


def success(policy: Policy, count: int = 100) -> float:
    episodes = [Episode("push", 1_000_000 + i) for i in range(count)]
    return float(np.mean([result.success for result in run_episodes(policy, PointMassEnv(32), episodes, mode="greedy", seed=0)[1]]))


def settings(algorithm: AlgorithmConfig, head: HeadConfig) -> AlgorithmConfig:
    """The table's algorithm, small. Heads other than tokens take smaller steps: at the tokens' own, MeanFlow loses success."""
    assert isinstance(algorithm, OnPolicyConfig)
    size: dict[str, float] = {"updates": 6, "episodes": 32, "lr": 1e-3}
    if isinstance(algorithm, OpdConfig) and algorithm.estimator == "sampled":
        size = {"updates": 24, "episodes": 96, "lr": 5e-5}
    elif not isinstance(algorithm, OpdConfig) and algorithm.needs >= {"log_prob"}:
        size = {"updates": 16, "episodes": 96, "group": 8, "lr": 2e-4 if isinstance(head, TokenHeadConfig) else 5e-5}
    return algorithm.model_copy(update=size | {"validate_episodes": 20, "expert_std": 0.2})


def improves(head: HeadConfig, algorithm: AlgorithmConfig, folder: Path) -> tuple[float, float]:
    """Success before and after training."""
    if isinstance(algorithm, SftConfig):
        return success(student(head, 1, episodes=64)), success(student(head, 300, episodes=64))
    policy = student(head, 100 if isinstance(head, TokenHeadConfig) else 60, episodes=8)
    before = success(policy)
    save_policy(policy, folder / "student")
    taught = not algorithm.needs.isdisjoint({"kl", "sft", "distance"}) or isinstance(algorithm, OpdConfig)
    teacher = "expert" if taught or (isinstance(algorithm, GrpoConfig) and algorithm.distill) else None
    sampled = isinstance(algorithm, OpdConfig) and algorithm.estimator == "sampled"
    if teacher and not isinstance(algorithm, DaggerConfig) and ("expert" not in head.supplies or sampled):
        teacher = str(folder / "teacher")  # of a kind with the student
        save_policy(student(head, 300, episodes=64), folder / "teacher")
    config = Config(
        algorithm=settings(algorithm, head),
        sim=SimConfig(tasks=PointMassEnv.tasks),
        init=folder / "student",
        teacher=teacher,
    )
    run = Run(folder / "run", config, resume=False)
    on_policy(run, build(config, policy), PointMassEnv(32))  # type: ignore[arg-type]
    return before, success(policy)


def walk(head: str, algorithm: str, folder: Path) -> None:
    lacking = missing(HEADS[head], ALGORITHMS[algorithm])
    if lacking:
        config = Config(algorithm=ALGORITHMS[algorithm])
        with pytest.raises(SpecError, match=rf"needs {', '.join(lacking)}, which this head does not supply"):
            build(config, VlaPolicy(PolicyConfig(head=HEADS[head], chunk=CHUNK, executed=CHUNK), SPEC))
        return
    before, after = improves(EXPLORING[head], ALGORITHMS[algorithm], folder)
    print(f"{head} × {algorithm}: {before:.0%} → {after:.0%}")
    assert after >= before + 0.1


@pytest.mark.parametrize(("head", "algorithm"), IN_CI)
def test_cell(head: str, algorithm: str, tmp_path: Path) -> None:
    walk(head, algorithm, tmp_path)


@pytest.mark.parametrize(
    ("head", "algorithm"), [(head, name) for head in HEADS for name in ALGORITHMS if missing(HEADS[head], ALGORITHMS[name])]
)
def test_what_does_not_fit_is_refused(head: str, algorithm: str, tmp_path: Path) -> None:
    walk(head, algorithm, tmp_path)


def test_the_expert_implies_no_learned_noise_but_may_show_its_chunks() -> None:
    policy = VlaPolicy(PolicyConfig(head=HEADS["flow, learned noise"], chunk=CHUNK, executed=CHUNK), SPEC)
    for algorithm in (ALGORITHMS["opd"], ALGORITHMS["dgrpo"]):
        require_capabilities(algorithm, policy)
        with pytest.raises(SpecError, match="needs expert, which this head does not supply"):
            require_capabilities(algorithm, policy, expert=True)
    require_capabilities(ALGORITHMS["dagger"], policy, expert=True)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("head", HEADS)
def test_every_cell(head: str, algorithm: str, tmp_path: Path) -> None:
    if (head, algorithm) not in IN_CI and not missing(HEADS[head], ALGORITHMS[algorithm]):
        walk(head, algorithm, tmp_path)


def test_the_readme_shows_the_table() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    assert table() in readme, f"put this into README.md:\n{table()}"
