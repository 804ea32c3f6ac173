"""The main job on one real task, small: teacher and student by SFT, then OPD must learn, and only through its KL term."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from policies.factors import Factors
from policies.folder import load_policy
from vla_rl.algorithms import opd
from vla_rl.config import Config, DataConfig, EvalConfig, OpdConfig, SftConfig, SimConfig
from vla_rl.data.collect import CollectConfig, collect
from vla_rl.loops import validate
from vla_rl.train import make_env, train

SIM = SimConfig(tasks=("faucet-open",), num_envs=16, workers=2, horizon=96)
EVALUATE = EvalConfig(episodes=2, split="validation")
OPD = OpdConfig(updates=10, episodes=16, passes=6, minibatch=64, lr=5e-4, validate_episodes=4, checkpoint_every=100)


def fine_tune(folder: Path, demos: Path, steps: int, episodes: int) -> Path:
    sft = SftConfig(steps=steps, batch=32, log_every=50, shift_px=2, warmup=20)
    data = DataConfig(path=demos, episodes_per_task=episodes)
    return train(Config(algorithm=sft, sim=SIM, data=data, evaluate=EVALUATE, threads=1), folder) / "policy"


def success(policy: Path) -> float:
    env = make_env(SIM)
    try:
        return validate(load_policy(policy), env, SIM.tasks, 40)
    finally:
        env.close()


def distil(student: Path, teacher: Path, folder: Path, settings: OpdConfig) -> Path:
    config = Config(algorithm=settings, sim=SIM, init=student, teacher=str(teacher), evaluate=EVALUATE, threads=1)
    return train(config, folder) / "policy"


def test_opd_raises_success_on_a_real_task_and_only_through_its_kl_term(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env = make_env(SIM)
    try:
        demos = collect(CollectConfig(out=tmp_path / "demos", sim=SIM, episodes=24), env)
    finally:
        env.close()
    teacher = fine_tune(tmp_path / "teacher", demos, steps=600, episodes=24)
    student = fine_tune(tmp_path / "student", demos, steps=150, episodes=2)
    start = success(student)
    end = success(distil(student, teacher, tmp_path / "opd", OPD))
    print(f"success on 40 validation seeds: teacher {success(teacher):.0%}, student {start:.0%} → {end:.0%}")
    assert end - start >= 0.2

    def zero(mine: Factors, other: Factors, direction: str) -> torch.Tensor:
        return 0.0 * mine.kl(other, "reverse").sum()

    monkeypatch.setattr(opd, "kl_loss", zero)
    zeroed = distil(student, teacher, tmp_path / "zeroed", OPD.model_copy(update={"updates": 2}))
    assert success(zeroed) == start  # nothing but the KL term moves the student
