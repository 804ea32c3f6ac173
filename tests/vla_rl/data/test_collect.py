"""Collecting keeps what the config says, whatever the number of environments, and leaves nothing half-written."""

import errno
import json
import shutil
from collections import namedtuple
from dataclasses import replace

import numpy as np
import pytest

from policies.interface import PolicySpec, SpecError
from sim.vec_env import SEED_RANGES, SimulationError
from tests.vla_rl.data.conftest import CAMERA, ENV_SPEC, episode
from tests.vla_rl.independent import Independent
from vla_rl.config import SimConfig
from vla_rl.data.collect import CollectConfig, collect
from vla_rl.data.demos import load_demos
from vla_rl.data.writer import ABOUT_FILE, write_episodes
from vla_rl.train import make_env

Pending = namedtuple("Pending", "result")
SIM = SimConfig(tasks=("open", "close"), horizon=20)


class FakeEnv(Independent):
    """Episodes whose content depends on (task, seed, noise) alone; the expert fails where the seed is divisible by `fails`."""

    spec = ENV_SPEC
    tasks = SIM.tasks
    horizon = 20

    def __init__(self, num_envs=3, fails=0, breaks_at=0):
        self.num_envs, self.fails, self.breaks_at = num_envs, fails, breaks_at
        self.started, self.slots = [], {}

    def reset(self, env_ids, seeds, tasks):
        self.slots |= dict(zip(env_ids, zip(seeds, tasks, strict=True), strict=True))

    def submit_demonstrations(self, env_ids, noise_std):
        return [Pending(lambda i=i, std=std: self._run(*self.slots[i], std)) for i, std in zip(env_ids, noise_std, strict=True)]

    def _run(self, seed, task, noise_std):
        self.started.append((task, seed, noise_std))
        if len(self.started) == self.breaks_at:
            raise SimulationError("the physics diverged")
        one = episode(seed % 7, length=2 + seed % 5, task=task, seed=seed, succeeded=not self.fails or seed % self.fails > 0)
        return replace(one, executed=one.action + np.float32(noise_std))


def seeds_and_actions(path):
    demos = load_demos(path, PolicySpec(**vars(ENV_SPEC), chunk=2, executed=2))
    parts = [demos.action[demos.episode == i] for i in range(len(demos.tasks))]
    return sorted((task, part.tolist()) for task, part in zip(demos.tasks, parts, strict=True))


def config(tmp_path, **changes):
    return CollectConfig(**({"out": tmp_path / "demos", "sim": SIM, "episodes": 4} | changes))


def test_collects_the_episodes_asked_for(tmp_path, capsys):
    env = FakeEnv()
    out = collect(config(tmp_path), env)
    demos = load_demos(out, PolicySpec(**vars(ENV_SPEC), chunk=2, executed=2))
    assert sorted(demos.tasks) == ["close"] * 4 + ["open"] * 4
    assert len({seed for _, seed, _ in env.started}) == 8 and all(seed in SEED_RANGES["train"] for _, seed, _ in env.started)
    assert sorted(std for task, _, std in env.started if task == "open") == [0, 0, 0.3, 0.3]
    assert demos.tasks[:2] == ("open", "close"), "tasks take turns, so that a part of the data set has all of them"
    assert "open: succeeded in 4 of 4 episodes, 4 kept" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["demos"]


def test_failed_episodes_are_replaced_and_the_number_of_environments_does_not_matter(tmp_path):
    few, many = FakeEnv(num_envs=1, fails=3), FakeEnv(num_envs=8, fails=3)
    first = collect(config(tmp_path, out=tmp_path / "few"), few)
    second = collect(config(tmp_path, out=tmp_path / "many", sim=SIM.model_copy(update={"num_envs": 8})), many)
    failures = sum(seed % 3 == 0 for _, seed, _ in few.started)
    assert failures > 0 and len(few.started) == 8 + failures
    assert seeds_and_actions(first) == seeds_and_actions(second)
    about = json.loads((first / ABOUT_FILE).read_text())
    assert sum(expert["attempts"] for expert in about["success"].values()) == 8 + failures
    assert sum(expert["successes"] for expert in about["success"].values()) == 8


def test_failures_can_be_kept(tmp_path):
    env = FakeEnv(fails=1)
    demos = load_demos(collect(config(tmp_path, keep_failures=True), env), PolicySpec(**vars(ENV_SPEC), chunk=2, executed=2))
    assert len(demos.tasks) == 8 == len(env.started)


def test_an_expert_that_always_fails_is_given_up(tmp_path):
    with pytest.raises(SimulationError, match="task 'open' failed in more than 12 of 16 episodes"):
        collect(config(tmp_path, sim=SIM.model_copy(update={"tasks": ("open",)})), FakeEnv(fails=1))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("breaks_at", [1, 5])
def test_a_failure_leaves_nothing_behind(tmp_path, breaks_at):
    with pytest.raises(SimulationError, match="diverged"):
        collect(config(tmp_path), FakeEnv(breaks_at=breaks_at))
    assert list(tmp_path.iterdir()) == []
    collect(config(tmp_path), FakeEnv())


def test_left_overs_of_a_killed_run_are_replaced(tmp_path):
    (tmp_path / "demos.partial/meta").mkdir(parents=True)
    collect(config(tmp_path), FakeEnv())
    assert [path.name for path in tmp_path.iterdir()] == ["demos"]


def test_a_complete_data_set_is_reused(tmp_path, capsys):
    collect(config(tmp_path), FakeEnv())
    env = FakeEnv()
    collect(config(tmp_path, sim=SIM.model_copy(update={"workers": 7, "num_envs": 5})), env)
    assert env.started == []
    assert "reused" in capsys.readouterr().out


def test_other_settings_do_not_overwrite(tmp_path):
    collect(config(tmp_path), FakeEnv())
    with pytest.raises(FileExistsError, match=r"other settings \(episodes was 4, now 5\)"):
        collect(config(tmp_path, episodes=5), FakeEnv())


def test_a_damaged_data_set_is_not_reused(tmp_path):
    out = collect(config(tmp_path), FakeEnv())
    next(out.glob("data/*/*.parquet")).unlink()
    with pytest.raises(ValueError, match="truncated"):
        collect(config(tmp_path), FakeEnv())


def test_a_folder_of_something_else_is_not_touched(tmp_path):
    (tmp_path / "demos").mkdir()
    with pytest.raises(FileExistsError, match="not written by `vla-rl collect`"):
        collect(config(tmp_path), FakeEnv())


def test_too_little_disk_space_is_noticed_before_simulating(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=10_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    env = FakeEnv()
    # 8 episodes of up to 20 frames: 160 * (16 * 24 * 3 / 2 + 200) = 124,160 bytes.
    with pytest.raises(OSError, match=r"not enough disk space.*0\.124 MB.*0\.010 MB are free"):
        collect(config(tmp_path), env)
    assert env.started == [] and list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up(tmp_path):
    def episodes():
        yield episode(0)
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=r"the disk is full.*was not written"):
        write_episodes(tmp_path / "out", ENV_SPEC, episodes(), {}, max_frames=10)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"action": np.zeros((5, 3), np.float32)}, r"'action' of an episode is float32 \(5, 3\), the spec wants float32 \(5, 2\)"),
        ({"action": np.full((5, 2), np.nan, np.float32)}, "'action' of an episode of task 'open', seed 10, is not finite"),
        ({"obs": {**episode(0).obs, CAMERA: np.zeros((5, 16, 16, 3), np.uint8)}}, "the spec wants uint8"),
    ],
)
def test_episodes_that_do_not_fit_the_spec(tmp_path, change, message):
    with pytest.raises(SpecError, match=message):
        write_episodes(tmp_path / "out", ENV_SPEC, [replace(episode(0), **change)], {}, max_frames=10)
    assert list(tmp_path.iterdir()) == []


def test_no_episodes(tmp_path):
    with pytest.raises(ValueError, match="no episodes to write"):
        write_episodes(tmp_path / "out", ENV_SPEC, [], {}, max_frames=0)


def test_expert_of_metaworld(tmp_path):
    sim = SimConfig(tasks=("door-open",), num_envs=2, workers=1, image_px=32)
    with make_env(sim) as env:
        out = collect(CollectConfig(out=tmp_path / "demos", sim=sim, episodes=2, noise_std=0.5), env)
        spec = PolicySpec(**vars(env.spec), chunk=8, executed=8)
        demos = load_demos(out, spec)
        seeds = np.random.default_rng(0).choice(SEED_RANGES["train"], (1, 8), replace=False)[0, :2]
        start = env.reset([0, 1], seeds, ["door-open"] * 2)
    starts = np.searchsorted(demos.episode, [0, 1])
    for name, value in start.items():
        np.testing.assert_array_equal(demos.obs[name][starts], value)
    assert np.abs(demos.action).max() <= 1.0 and demos.obs[spec.entries[0].name].std() > 10
