"""Collecting a bank of states, and training episodes that start from it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from pydantic import ValidationError

from policies.config import PolicyConfig
from policies.folder import make_policy
from sim.resets import Bank, BankResets, PrefixResets
from sim.vec_env import SEED_RANGES, SimulationError
from vla_rl.batch import Episode
from vla_rl.cli import main
from vla_rl.config import Config, GrpoConfig, OnPolicyConfig, SftConfig, SimConfig
from vla_rl.data.bank import BankConfig, collect_bank
from vla_rl.data.collect import CollectConfig
from vla_rl.loops import _episodes, make_starts
from vla_rl.rollout import run_episodes
from vla_rl.run import Run
from vla_rl.train import make_env, make_spec, train

SIM = SimConfig(backend="mujoco", tasks=("reach", "lift"), num_envs=4, workers=1, image_px=16)


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("banks")
    preset = folder / "preset.yaml"
    preset.write_text("sim: {backend: mujoco, tasks: [reach, lift], num_envs: 4, workers: 1, image_px: 16}\nepisodes: 3\n")
    assert main(["collect", str(preset), "--bank", "--out", str(folder / "bank")]) == 0
    return folder / "bank"


def test_a_bank_holds_states_of_solved_training_episodes(bank: Path) -> None:
    found = Bank.load(bank)
    assert {state.task for state in found.states} == {"reach", "lift"}
    for task in ("reach", "lift"):
        episodes = {state.episode for state in found.states if state.task == task}
        assert len(episodes) == 3
        for episode in episodes:
            shares = [state.share for state in found.states if state.episode == episode]
            assert shares == sorted(shares) and shares[0] == 0 and 0.5 < shares[-1] < 1
            np.testing.assert_allclose(np.diff(shares), shares[1])
    assert all(state.seed in SEED_RANGES["train"] for state in found.states)
    physics = [state.arrays["physics"] for state in found.states]
    assert len({values.tobytes() for values in physics}) == len(physics)


def test_the_same_settings_give_the_same_bank_and_a_folder_is_not_overwritten(bank: Path, tmp_path: Path) -> None:
    config = BankConfig(out=tmp_path / "again", sim=SIM.model_copy(update={"num_envs": 3}), episodes=3)
    env = make_env(config.sim)
    try:
        collect_bank(config, env)
        with pytest.raises(FileExistsError, match="already exists"):
            collect_bank(config, env)
    finally:
        env.close()
    for a, b in zip(Bank.load(bank).states, Bank.load(tmp_path / "again").states, strict=True):
        assert (a.task, a.seed, a.share) == (b.task, b.seed, b.share)
        np.testing.assert_array_equal(a.arrays["physics"], b.arrays["physics"])


def episodes_of(sim: SimConfig, update: int, algorithm: OnPolicyConfig) -> list[Episode]:
    run = cast(Run, SimpleNamespace(config=Config(sim=sim, seed=3)))
    return _episodes(run, algorithm, update, make_starts(sim))


def test_updates_draw_their_starts_and_groups_share_them(bank: Path) -> None:
    algorithm = GrpoConfig(updates=11, episodes=80, group=4)
    plain = episodes_of(SIM, 0, algorithm)
    mixed = episodes_of(SIM.model_copy(update={"resets": BankResets(path=bank, fraction=0.5)}), 0, algorithm)
    assert [(e.task, e.seed) for e in plain] == [(e.task, e.seed) for e in mixed], "seeds are those of a run without a bank"
    for first in range(0, 80, 4):
        assert len({episode.start for episode in mixed[first : first + 4]}) == 1
    assert 4 <= sum(e.start is not None for e in mixed[::4]) <= 16
    assert all(e.start is None or e.start.task == e.task for e in mixed)
    prefix = SIM.model_copy(update={"resets": PrefixResets(path=bank, fraction=1.0, way=(0.8, 0.0))})
    shares = [np.mean([e.start.share for e in episodes_of(prefix, update, algorithm) if e.start]) for update in (0, 5, 10)]
    assert 0.6 < shares[0] <= 0.8 and 0.2 < shares[1] <= 0.4 and shares[2] == 0


def test_a_rollout_starts_where_it_is_told_and_keeps_groups_apart(bank: Path) -> None:
    state = next(state for state in Bank.load(bank).states if state.task == "lift" and state.share > 0.5)
    env = make_env(SIM)
    try:
        policy = make_policy(PolicyConfig(chunk=4, executed=4), make_spec(env.spec, PolicyConfig(chunk=4, executed=4)))
        episodes = [Episode("lift", 5), Episode("lift", 5, start=state), Episode("lift", 5), Episode("lift", 5, start=state)]
        batch, _ = run_episodes(policy, env, episodes, mode="stochastic", seed=0, keep=True)
        assert batch is not None
        wanted = [env.reset([0], [5], ["lift"], [start])["observation.state"][0] for start in (None, state)]
        with pytest.raises(SimulationError, match="seed 2000000 is not a training seed"):
            run_episodes(policy, env, [Episode("lift", 2_000_000, start=state)], mode="greedy", seed=0)
    finally:
        env.close()
    first = batch.step == 0
    assert batch.group[first].tolist() == [0, 1, 0, 1]
    for row, state_entry in enumerate(batch.obs["observation.state"][first.numpy()]):
        np.testing.assert_array_equal(state_entry, wanted[row % 2])


def test_resets_are_refused_where_nothing_is_trained_on_policy(bank: Path, tmp_path: Path) -> None:
    resets = {"name": "bank", "path": str(bank)}
    with pytest.raises(ValidationError, match=r"only on-policy training starts elsewhere: sim.resets 'bank' has no use here"):
        CollectConfig(sim={"backend": "mujoco", "tasks": ["lift"], "resets": resets})  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="only on-policy training starts elsewhere"):
        BankConfig(sim={"backend": "mujoco", "tasks": ["lift"], "resets": resets})  # type: ignore[arg-type]
    config = Config(algorithm=SftConfig(), sim=SIM.model_copy(update={"resets": BankResets(path=bank)}))
    with pytest.raises(ValueError, match=r"sft starts no training episodes: sim.resets 'bank' has no use"):
        train(config, tmp_path / "run")
    gone = SIM.model_copy(update={"resets": BankResets(path=tmp_path / "gone")})
    with pytest.raises(SimulationError, match="is no bank of states"):
        train(Config(algorithm=GrpoConfig(), sim=gone, init=tmp_path), tmp_path / "run")
    env = make_env(SIM)
    try:
        with pytest.raises(SimulationError, match="backend 'metaworld' has no banks of states"):
            collect_bank(BankConfig(out=tmp_path / "b", sim=SimConfig(tasks=("door-open",))), env)
    finally:
        env.close()


def test_an_expert_that_hardly_ever_succeeds_is_given_up(tmp_path: Path) -> None:
    config = BankConfig(out=tmp_path / "b", sim=SIM.model_copy(update={"horizon": 4, "tasks": ("lift",)}), episodes=1)
    env = make_env(config.sim)
    try:
        with pytest.raises(SimulationError, match="the expert of task 'lift' solved 0 of 4 episodes, 1 are wanted; lower noise_std"):
            collect_bank(config, env)
    finally:
        env.close()
    assert not config.out.exists()
