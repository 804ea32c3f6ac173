"""Where training episodes start: draws from a bank, and episodes that start from its states."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import sim
from sim.randomize import Randomize
from sim.resets import Bank, BankResets, DefaultResets, PrefixResets, Starts, State
from sim.tasks import TASKS
from sim.vec_env import SimulationError
from sim.workers.vec_env import WorkerVecEnv

ABOUT = {"backend": "mujoco", "robot": "arm7", "control": "ee_delta"}
IMAGE, STATE, TEXT = "observation.images.front", "observation.state", "task"


def toy(episodes: int = 4) -> Bank:
    """Per task, episodes with states a quarter of the way apart."""
    rows = [(task, i, share) for task in ("lift", "push") for i in range(episodes) for share in (0.0, 0.25, 0.5, 0.75)]
    arrays = {"physics": np.arange(3.0), "command.opening": np.float32(0.5)}
    return Bank(ABOUT, tuple(State(task, 10 + i, i, share, arrays) for task, i, share in rows))


def starts_of(folder: Path, resets: BankResets | PrefixResets) -> Starts:
    toy().save(folder)
    return Starts(resets, ABOUT, ["lift", "push"])


def test_a_bank_comes_back_from_its_files(tmp_path: Path) -> None:
    toy().save(tmp_path / "bank")
    again = Bank.load(tmp_path / "bank")
    assert again.about == ABOUT and len(again.states) == 32
    for a, b in zip(toy().states, again.states, strict=True):
        assert (a.task, a.seed, a.episode, a.share) == (b.task, b.seed, b.episode, b.share)
        assert a.arrays.keys() == b.arrays.keys()
        for name in a.arrays:
            np.testing.assert_array_equal(a.arrays[name], b.arrays[name])
            assert np.shape(a.arrays[name]) == b.arrays[name].shape and a.arrays[name].dtype == b.arrays[name].dtype


def test_the_default_draws_nothing() -> None:
    rng = np.random.default_rng(0)
    assert Starts(DefaultResets(), ABOUT, ["lift"]).draw("lift", rng, 0.5) is None
    assert rng.random() == np.random.default_rng(0).random(), "old runs draw what they drew"


def test_a_bank_is_drawn_as_often_as_asked_and_evenly(tmp_path: Path) -> None:
    starts, rng = starts_of(tmp_path / "b", BankResets(path=tmp_path / "b", fraction=0.75)), np.random.default_rng(0)
    drawn = [starts.draw("push", rng, 0.0) for _ in range(4000)]
    found = [state for state in drawn if state is not None]
    assert abs(len(found) / 4000 - 0.75) < 0.03
    assert {state.task for state in found} == {"push"}
    counts = np.unique([[state.episode, state.share] for state in found], axis=0, return_counts=True)[1]
    assert len(counts) == 16 and counts.min() > 0.6 * counts.mean()


@pytest.mark.parametrize(("progress", "share"), [(0.0, 0.75), (0.25, 0.5), (0.5, 0.25), (0.9, 0.0), (1.0, 0.0)])
def test_a_prefix_shrinks_as_training_goes_on(tmp_path: Path, progress: float, share: float) -> None:
    """From 0.75 to 0: after a quarter of training 0.5625, so that the state at 0.5 is the farthest within."""
    starts, rng = starts_of(tmp_path / "b", PrefixResets(path=tmp_path / "b", fraction=1.0)), np.random.default_rng(0)
    drawn = [starts.draw("lift", rng, progress) for _ in range(40)]
    assert {state.share for state in drawn if state} == {share}
    assert {state.episode for state in drawn if state} == {0, 1, 2, 3}


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "b"
    with pytest.raises(SimulationError, match=r"is no bank of states: it has no bank.json; make one by `vla-rl collect PRESET --bank`"):
        Starts(BankResets(path=folder), ABOUT, ["lift"])
    toy().save(folder)
    with pytest.raises(SimulationError, match="collected with control 'ee_delta', this run has 'joint_delta'"):
        Starts(BankResets(path=folder), ABOUT | {"control": "joint_delta"}, ["lift"])
    with pytest.raises(SimulationError, match="has none of task drawer"):
        Starts(BankResets(path=folder), ABOUT, ["lift", "drawer"])
    record = json.loads((folder / "bank.json").read_text())
    record["states"][3]["seed"] = 2_000_007
    (folder / "bank.json").write_text(json.dumps(record))
    with pytest.raises(SimulationError, match=r"holds states of seeds \[2000007\], which are not training seeds"):
        Bank.load(folder)


@pytest.fixture(scope="module")
def env() -> Iterator[WorkerVecEnv]:
    with sim.make("mujoco", ["lift", "push"], 2, 1, image_px=32) as env:
        yield env


def held(env: WorkerVecEnv) -> State:
    """A block that the expert has just lifted off the table."""
    env.reset([0], [5], ["lift"])
    env.step_chunk(env.expert_chunk([0], 30), [0], "none")
    snapshot = env.snapshot([0])[0]
    assert not snapshot.ended
    return State("lift", 5, 0, 0.8, snapshot.arrays)


def test_an_episode_from_a_state_is_a_new_episode_that_goes_on_bit_for_bit(env: WorkerVecEnv) -> None:
    env.reset([0], [5], ["lift"])
    env.step_chunk(env.expert_chunk([0], 20), [0], "none")
    snapshot, obs = env.snapshot([0]), env.restore([0], env.snapshot([0]))
    actions = np.random.default_rng(0).uniform(-1, 1, (1, 12, 5)).astype(np.float32)
    wanted = env.step_chunk(actions, [0])
    state = State("lift", 5, 0, 0.5, snapshot[0].arrays)
    seen = env.reset([0, 1], [77, 78], ["push", "lift"], [None, state])
    np.testing.assert_array_equal(seen[IMAGE][1], obs[IMAGE][0])
    np.testing.assert_array_equal(seen[STATE][1], obs[STATE][0])
    assert env.snapshot([1])[0].steps == 0 and env.snapshot([1])[0].seed == 78
    assert seen[TEXT][1] == TASKS["lift"].instruction(TASKS["lift"].draw(5), 78, "train"), "the goal is the state's own"
    step = env.step_chunk(actions, [1])
    np.testing.assert_array_equal(step.obs[STATE], wanted.obs[STATE])
    np.testing.assert_array_equal(step.reward, wanted.reward)


def test_a_grasp_survives_the_file_and_a_lighter_block(env: WorkerVecEnv, tmp_path: Path) -> None:
    Bank(ABOUT, (held(env),)).save(tmp_path / "bank")
    state = Bank.load(tmp_path / "bank").states[0]
    still = np.zeros((1, 10, 5), np.float32)
    still[..., -1] = 2 * float(state.arrays["command"][7]) - 1
    randomize = Randomize(physics={"mass": (0.5, 0.5), "friction": (1.2, 1.2)}, timing={"action_delay_s": (0.03, 0.03)})  # type: ignore[arg-type]
    with sim.make("mujoco", ["lift"], 1, 1, image_px=32, randomize=randomize) as other:
        for where in (env, other):
            where.reset([0], [77], ["lift"], [state])
            reward = where.step_chunk(still, [0], "none").reward[0]
            assert reward.min() > 1.5 and reward[-1] > 2.4, "the block was dropped"


def test_evaluation_seeds_never_start_from_a_bank(env: WorkerVecEnv) -> None:
    state = held(env)
    for seed in (1_000_000, 2_000_003):
        with pytest.raises(SimulationError, match=f"seed {seed} is not a training seed: evaluation starts from the task's own"):
            env.reset([0], [seed], ["lift"], [state])


def test_states_of_another_task_or_model_are_refused(env: WorkerVecEnv) -> None:
    state = held(env)
    with pytest.raises(SimulationError, match="task 'push' cannot start from a state of task 'lift'"):
        env.reset([0], [1], ["push"], [state])
    short = State("lift", 5, 0, 0.5, {**state.arrays, "physics": state.arrays["physics"][:-3]})
    with pytest.raises(SimulationError, match=r"the state has \d+ numbers, scene 'blocks' has \d+: it is of another model"):
        env.reset([0], [1], ["lift"], [short])
    with pytest.raises(SimulationError, match="one start or None per environment, got 1 for 2"):
        env.reset([0, 1], [1, 2], ["lift", "lift"], [state])


def test_metaworld_has_no_banks() -> None:
    with sim.make("metaworld", ["door-open"], 1, 1, image_px=16) as other:
        state = State("door-open", 1, 0, 0.5, {})
        with pytest.raises(SimulationError, match="Meta-World starts from its own initial states only"):
            other.reset([0], [1], ["door-open"], [state])
