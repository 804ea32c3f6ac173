"""The `VecEnv` contract of the Meta-World backend, over real worker processes."""

import numpy as np
import pytest

import sim
from sim.vec_env import SimulationError
from tests.sim.contract import (
    check_expert_chunk,
    check_neighbours,
    check_observations,
    check_restore,
    check_starts,
    check_success,
    check_time_limit,
)

EIGHT = ("button-press-topdown", "window-open", "door-open", "drawer-open", "faucet-open", "faucet-close", "push", "plate-slide")
IMAGE, STATE, TEXT = "observation.images.corner2", "observation.state", "task"


@pytest.fixture(scope="module")
def env():
    with sim.make("metaworld", EIGHT, num_envs=8, workers=2, image_px=32, horizon=160) as env:
        yield env


def test_observations_follow_the_spec(env):
    obs = check_observations(env, [5, 0, 3], [1, 2, 3], ["push", "drawer-open", "window-open"])
    assert (env.spec.embodiment, env.spec.control_hz, env.spec.action.dim) == ("metaworld-sawyer", 80.0, 4)
    assert "window" in obs[TEXT][2] and "drawer" in obs[TEXT][1] and "puck" in obs[TEXT][0]
    obs = env.reset([0], [1], ["push"])
    np.testing.assert_array_equal(env.privileged([0])[:, :4], obs[STATE])


def test_start_depends_on_task_and_seed_alone(env):
    check_starts(env, range(8), [(i + 3) % 8 for i in range(8)], EIGHT)


def test_faucet_tasks_differ_in_the_instruction_only(env):
    obs = env.reset([0, 1], [5, 5], ["faucet-open", "faucet-close"])
    np.testing.assert_array_equal(obs[IMAGE][0], obs[IMAGE][1])
    np.testing.assert_array_equal(obs[STATE][0], obs[STATE][1])
    assert obs[TEXT][0] != obs[TEXT][1]


def test_restore_repeats_bit_for_bit_in_any_environment(env):
    tasks = ["drawer-open", "push", "faucet-close", "door-open"]
    check_restore(env, [0, 1, 2, 3], [7, 4, 5, 6], tasks, meanwhile=tasks[::-1])


def test_an_episode_does_not_depend_on_its_neighbours(env):
    check_neighbours(env, range(8), ["window-open"] * 8)


def test_success_ends_the_episode_inside_the_chunk(env):
    assert 60 < check_success(env, [4, 1], "drawer-open", 160) < 120


def test_time_limit_inside_the_chunk(env):
    check_time_limit(env, 2, "push", 160)


def test_expert_chunk_changes_nothing_and_is_what_the_expert_does(env):
    check_expert_chunk(env, [0, 1], ["button-press-topdown", "faucet-open"])


def test_demonstrations(env):
    tasks = ["drawer-open", "window-open", "push", "faucet-close"]
    env.reset(range(4), [8, 9, 10, 11], tasks)
    quiet = env.demonstrate(range(4), noise_std=0.0)
    for row, demo in enumerate(quiet):
        steps = len(demo.success)
        assert (demo.task, demo.seed, demo.succeeded) == (tasks[row], 8 + row, True)
        assert demo.success.tolist() == [False] * (steps - 1) + [True]
        assert demo.obs[IMAGE].shape == (steps, 32, 32, 3) and demo.obs[STATE].shape == (steps, 4)
        np.testing.assert_array_equal(demo.action, demo.executed)
    first = env.reset(range(4), [8, 9, 10, 11], tasks)
    np.testing.assert_array_equal(first[IMAGE][1], quiet[1].obs[IMAGE][0])
    assert first[TEXT][1] == quiet[1].instruction
    replayed = env.step_chunk(quiet[1].executed[None], [1])
    assert replayed.terminated.all() and replayed.executed[0] == len(quiet[1].success)

    env.reset(range(4), [8, 9, 10, 11], tasks)
    noisy = [pending.result() for pending in env.submit_demonstrations(range(4), noise_std=0.3, render=False)]
    for demo in noisy:
        assert IMAGE not in demo.obs and np.abs(demo.executed).max() <= 1 and np.abs(demo.action).max() <= 1
        free = (np.abs(demo.action) < 0.2) & (np.abs(demo.executed) < 1)
        assert 0.2 < (demo.executed - demo.action)[free].std() < 0.4
    env.reset([0], [8], tasks[:1])
    np.testing.assert_array_equal(env.demonstrate([0], 0.3, render=False)[0].executed, noisy[0].executed)
    with pytest.raises(SimulationError, match="has ended"):
        env.demonstrate([0], 0.0)


@pytest.mark.parametrize("task", EIGHT)
def test_expert_solves_the_task_within_the_horizon(env, task):
    """At least 9 of 10 starts from each of the training and test ranges."""
    solved = []
    for start in (0, 5, 2_000_000, 2_000_005):
        env.reset(range(5), range(start, start + 5), [task] * 5)
        solved += [demo.succeeded for demo in env.demonstrate(range(5), 0.0, render=False)]
    assert np.mean(solved) >= 0.9


def test_held_out_phrasings_are_drawn_on_request():
    with sim.make("metaworld", ["drawer-open"], 1, 1, image_px=16, paraphrases="held_out") as other:
        held_out = {other.reset([0], [seed], ["drawer-open"])[TEXT][0] for seed in range(12)}
    assert held_out == {"slide the drawer open", "draw the drawer out by its handle"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backend": "metaword"}, "unknown simulator backend 'metaword'.*allowed: metaworld"),
        ({"tasks": ["drawr-open"]}, "unknown Meta-World task 'drawr-open'; did you mean drawer-open"),
        ({"camera": "corner"}, "unknown camera 'corner'; did you mean corner2.*allowed: corner2, behind, side"),
        ({"num_envs": 0}, "num_envs must be at least 1, got 0"),
        ({"workers": -1}, "workers must be at least 1, got -1"),
        ({"paraphrases": "test"}, "unknown set of paraphrases 'test'.*train, held_out"),
    ],
)
def test_make_refuses(change, message):
    with pytest.raises(SimulationError, match=message):
        sim.make(**{"backend": "metaworld", "tasks": ["drawer-open"], "num_envs": 1} | change)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda env: env.reset([0], [1], ["hammer"]), "unknown task 'hammer'.*allowed: button-press-topdown"),
        (lambda env: env.reset([0], [-1], ["push"]), "seeds must not be negative, got -1"),
        (lambda env: env.reset([0, 1], [1], ["push"]), "one seed and one task per environment"),
        (lambda env: env.reset([8], [1], ["push"]), r"within 0\.\.7.*got \[8\]"),
        (lambda env: env.step_chunk(np.zeros((2, 1, 4)), [1, 1]), "distinct"),
        (lambda env: env.step_chunk(np.zeros((1, 4)), [1]), r"shape \(n=1, K>=1, A=4\), got \(1, 4\)"),
        (lambda env: env.step_chunk(np.full((1, 1, 4), np.nan), [1]), r"environments \[1\] hold NaN"),
        (lambda env: env.step_chunk(np.zeros((1, 1, 4)), [1], render="first"), "unknown render mode 'first'"),
        (lambda env: env.demonstrate([1], -0.1), "noise_std must be at least 0"),
        (lambda env: env.restore([1], ["nothing"]), "takes what snapshot returned, got str"),
    ],
)
def test_bad_calls_are_refused_and_the_environment_goes_on(env, call, message):
    env.reset([1], [1], ["push"])
    with pytest.raises(SimulationError, match=message):
        call(env)
    env.step_chunk(np.zeros((1, 1, 4)), [1])
