"""The `VecEnv` contract of the Meta-World backend, over real worker processes."""

import numpy as np
import pytest

import sim
from policies.interface import PolicySpec
from sim.vec_env import SimulationError

EIGHT = ("button-press-topdown", "window-open", "door-open", "drawer-open", "faucet-open", "faucet-close", "push", "plate-slide")
IMAGE, STATE, TEXT = "observation.images.corner2", "observation.state", "task"


@pytest.fixture(scope="module")
def env():
    with sim.make("metaworld", EIGHT, num_envs=8, workers=2, image_px=32, horizon=160) as env:
        yield env


def assert_same(a, b) -> None:
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def noise(seed: int, n: int, length: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (n, length, 4)).astype(np.float32)


def test_observations_follow_the_spec(env):
    spec = PolicySpec(
        embodiment=env.spec.embodiment,
        entries=env.spec.entries,
        action=env.spec.action,
        control_hz=env.spec.control_hz,
        chunk=8,
        executed=8,
    )
    ids = [5, 0, 3]
    obs = env.reset(ids, [1, 2, 3], ["push", "drawer-open", "window-open"])
    spec.check(obs)
    assert (spec.embodiment, spec.control_hz, spec.action.dim) == ("metaworld-sawyer", 80.0, 4)
    assert "window" in obs[TEXT][2] and "drawer" in obs[TEXT][1] and "puck" in obs[TEXT][0]
    assert obs[IMAGE].std() > 20
    low, high = np.array(spec.entries[1].low), np.array(spec.entries[1].high)
    assert ((low <= obs[STATE]) & (obs[STATE] <= high)).all()
    np.testing.assert_array_equal(env.privileged(ids)[:, :4], obs[STATE])
    step = env.step_chunk(noise(0, 3, 6), ids)
    spec.check(step.obs)
    shapes = [getattr(step, name).shape for name in ("reward", "success", "terminated", "truncated", "executed")]
    assert shapes == [(3, 6), (3, 6), (3,), (3,), (3,)]
    assert (step.reward.dtype, step.success.dtype, step.executed.dtype) == (np.float32, bool, np.int64)
    assert not step.done.any() and (step.executed == 6).all() and (step.reward > 0).all()


def test_start_depends_on_task_and_seed_alone(env):
    """In any environment, of any worker, whatever ran there before."""
    ids, tasks = list(range(8)), list(EIGHT)
    first = env.reset(ids, [17] * 8, tasks)
    env.step_chunk(noise(1, 8, 16), ids, render="none")
    shifted = [(i + 3) % 8 for i in ids]
    assert_same(first, env.reset(shifted, [17] * 8, tasks))
    other = env.reset(ids, [18] * 8, tasks)
    for row in range(8):
        assert (first[IMAGE][row] != other[IMAGE][row]).any()


def test_faucet_tasks_differ_in_the_instruction_only(env):
    obs = env.reset([0, 1], [5, 5], ["faucet-open", "faucet-close"])
    np.testing.assert_array_equal(obs[IMAGE][0], obs[IMAGE][1])
    np.testing.assert_array_equal(obs[STATE][0], obs[STATE][1])
    assert obs[TEXT][0] != obs[TEXT][1]


def test_restore_repeats_bit_for_bit_in_any_environment(env):
    ids, tasks = [0, 1, 2, 3], ["drawer-open", "push", "faucet-close", "door-open"]
    env.reset(ids, [1, 2, 3, 4], tasks)
    env.step_chunk(env.expert_chunk(ids, 24), ids, render="none")
    before, obs = env.snapshot(ids), env.restore(ids, env.snapshot(ids))
    actions = noise(2, 4, 12)
    first = env.step_chunk(actions, ids)
    env.reset(ids, [9] * 4, tasks[::-1])
    elsewhere = [7, 4, 5, 6]
    assert_same(env.restore(elsewhere, before), obs)
    second = env.step_chunk(actions, elsewhere)
    assert_same(first.obs, second.obs)
    for name in ("reward", "success", "terminated", "truncated", "executed"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_chunks_of_disjoint_groups_overlap(env):
    ids = list(range(8))
    tasks, actions = ["window-open"] * 8, noise(3, 8, 8)
    env.reset(ids, ids, tasks)
    together = env.step_chunk(actions, ids)
    env.reset(ids, ids, tasks)
    a, b = env.submit_chunk(actions[:3], ids[:3]), env.submit_chunk(actions[3:], ids[3:])
    late, early = b.result(), a.result()
    np.testing.assert_array_equal(np.concatenate([early.obs[IMAGE], late.obs[IMAGE]]), together.obs[IMAGE])
    np.testing.assert_array_equal(np.concatenate([early.reward, late.reward]), together.reward)


def test_success_ends_the_episode_inside_the_chunk(env):
    env.reset([4, 1], [0, 0], ["drawer-open", "drawer-open"])
    chunk = env.expert_chunk([4], 160)
    still = np.zeros_like(chunk)
    step = env.step_chunk(np.concatenate([chunk, still]), [4, 1], render="all")
    end = int(step.executed[0])
    assert 60 < end < 120
    assert step.terminated.tolist() == [True, False] and step.truncated.tolist() == [False, True]
    assert step.executed.tolist() == [end, 160]
    assert step.success[0].tolist() == [k == end - 1 for k in range(160)] and not step.success[1].any()
    assert (step.reward[0, :end] > 0).all() and (step.reward[0, end:] == 0).all()
    assert len(step.frames) == 160
    np.testing.assert_array_equal(step.frames[-1][IMAGE], step.obs[IMAGE])
    np.testing.assert_array_equal(step.frames[end - 1][IMAGE][0], step.frames[-1][IMAGE][0])
    assert (step.frames[end - 2][IMAGE][0] != step.frames[5][IMAGE][0]).any()
    with pytest.raises(SimulationError, match=r"environment 4 .drawer-open, seed 0. has ended: reset it"):
        env.step_chunk(still, [4])


def test_time_limit_inside_the_chunk(env):
    env.reset([2], [0], ["push"])
    env.step_chunk(np.zeros((1, 156, 4)), [2], render="none")
    step = env.step_chunk(np.zeros((1, 8, 4)), [2], render="none")
    assert step.executed.tolist() == [4] and step.truncated.all() and not step.terminated.any()
    assert (step.reward[0, 4:] == 0).all() and (step.obs[IMAGE] == 0).all()


def test_expert_chunk_changes_nothing_and_is_what_the_expert_does(env):
    ids = [0, 1]
    env.reset(ids, [3, 3], ["button-press-topdown", "faucet-open"])
    before = env.privileged(ids)
    chunk = env.expert_chunk(ids, 8)
    assert chunk.shape == (2, 8, 4) and chunk.dtype == np.float32 and np.abs(chunk).max() <= 1
    np.testing.assert_array_equal(env.privileged(ids), before)
    singles = []
    for _ in range(8):
        singles.append(env.expert_chunk(ids, 1))
        env.step_chunk(singles[-1], ids, render="none")
    np.testing.assert_array_equal(np.concatenate(singles, axis=1), chunk)


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
