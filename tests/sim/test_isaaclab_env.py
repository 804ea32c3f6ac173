"""The Isaac Lab backend over real simulations on the CPU: the contract, equality with MuJoCo at the start, recorded against eager steps."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import numpy as np
import pytest

import sim
from sim.isaaclab.env import IsaacVecEnv
from sim.randomize import ImageTerms, Randomize, TimingTerms
from sim.vec_env import SimulationError, seat
from tests.sim.contract import (
    check_expert_chunk,
    check_neighbours,
    check_observations,
    check_restore,
    check_success,
    check_time_limit,
    noise,
)

pytestmark = [
    pytest.mark.skipif(find_spec("isaaclab") is None, reason="needs the extra 'isaac'"),
    pytest.mark.timeout(1800),  # the first start on a machine compiles kernels for some minutes
]

TASKS = ("push", "lift", "drawer")
NAMES = ["push", "lift", "lift", "drawer"]
IMAGE, STATE, TEXT = "observation.images.front", "observation.state", "task"


@pytest.fixture(scope="module")
def env() -> Iterator[IsaacVecEnv]:
    with IsaacVecEnv(TASKS, num_envs=6, image_px=32) as env:
        yield env


def seats(env: IsaacVecEnv) -> list[int]:
    found = seat(env, NAMES)
    assert None not in found
    return [env_id for env_id in found if env_id is not None]


def test_environments_are_shared_out_among_scenes(env: IsaacVecEnv) -> None:
    assert env.lockstep == ((0, 1, 2, 3), (4, 5))
    assert [env.hosts(i) for i in (0, 3, 4)] == [("push", "lift"), ("push", "lift"), ("drawer",)]
    assert seat(env, ["drawer", "drawer", "drawer", "push"]) == [4, 5, None, 0]
    with pytest.raises(SimulationError, match="environment 4 holds a scene for drawer; it cannot run 'push'"):
        env.reset([4], [0], ["push"])


def test_observations_follow_the_spec_and_start_as_in_mujoco(env: IsaacVecEnv) -> None:
    ids = seats(env)
    check_observations(env, ids, [11, 12, 13, 14], NAMES)
    obs = env.reset(ids, [11, 12, 13, 14], NAMES)
    with sim.make("mujoco", TASKS, num_envs=4, workers=1, image_px=32) as other:
        assert other.spec == env.spec
        same = other.reset(range(4), [11, 12, 13, 14], NAMES)
        np.testing.assert_allclose(env.privileged(ids), other.privileged(range(4)), atol=2e-6)
    np.testing.assert_allclose(obs[STATE], same[STATE], atol=1e-6)
    np.testing.assert_array_equal(obs[TEXT], same[TEXT])
    difference = np.abs(obs[IMAGE].astype(int) - same[IMAGE])
    assert difference.mean() < 3 and np.percentile(difference, 99) < 30, "the same scene looks different in the two backends"


def test_the_first_steps_are_those_of_mujoco(env: IsaacVecEnv) -> None:
    """Free motion agrees to float precision; contacts, which amplify it, come later."""
    ids, actions = seats(env), noise(0, 4, 8)
    env.reset(ids, [11, 12, 13, 14], NAMES)
    step = env.step_chunk(actions, ids)
    with sim.make("mujoco", TASKS, num_envs=4, workers=1, image_px=32) as other:
        other.reset(range(4), [11, 12, 13, 14], NAMES)
        same = other.step_chunk(actions, range(4))
    np.testing.assert_allclose(step.obs[STATE], same.obs[STATE], atol=1e-3)
    np.testing.assert_allclose(step.reward, same.reward, atol=2e-3)


def test_restore_repeats_bit_for_bit_in_any_environment_of_the_scene(env: IsaacVecEnv) -> None:
    check_restore(env, [0, 1, 4], [3, 2, 5], ["push", "lift", "drawer"], meanwhile=["lift", "push", "drawer"])


def test_environments_that_are_left_out_do_not_move(env: IsaacVecEnv) -> None:
    check_neighbours(env, [0, 1, 2, 3], ["lift", "push", "lift", "push"])


def test_success_ends_the_episode_inside_the_chunk(env: IsaacVecEnv) -> None:
    assert 20 < check_success(env, [0, 1], "lift", 80) < 60


def test_time_limit_inside_the_chunk(env: IsaacVecEnv) -> None:
    check_time_limit(env, 2, "lift", 80)


def test_expert_chunk_changes_nothing_and_is_what_the_expert_does(env: IsaacVecEnv) -> None:
    check_expert_chunk(env, [0, 4], ["push", "drawer"])


def test_demonstrations_succeed_and_replay(env: IsaacVecEnv) -> None:
    ids = seats(env)
    seeds = [2_000_000, 2_000_001, 2_000_002, 2_000_003]
    env.reset(ids, seeds, NAMES)
    demos = env.demonstrate(ids, [0.0, 0.0, 0.3, 0.0])
    assert [demo.task for demo in demos] == NAMES
    assert [demo.succeeded for demo in demos if (demo.action == demo.executed).all()] == [True, True, True]
    assert demos[0].obs[IMAGE].shape == (len(demos[0].success), 32, 32, 3)
    assert (demos[2].action != demos[2].executed).any()
    env.reset(ids[:1], seeds[:1], NAMES[:1])
    replayed = env.step_chunk(demos[0].executed[None], ids[:1])
    assert replayed.terminated.all() and replayed.executed[0] == 1 + demos[0].success.argmax()


def test_a_broken_environment_ends_and_starts_anew_while_others_go_on(env: IsaacVecEnv) -> None:
    ids = [0, 1]
    env.reset(ids, [5, 6], ["push", "push"])
    healthy = env.snapshot([1])[0]
    broken = env.snapshot([0])[0]
    broken.physics.velocities[:] = np.nan
    env.restore([1], [healthy])
    env.restore([0], [broken])
    step = env.step_chunk(noise(1, 2, 4), ids)
    assert step.diverged.tolist() == [True, False] and step.truncated.tolist() == [True, False]
    assert step.executed.tolist() == [1, 4] and np.isfinite(step.reward).all() and np.isfinite(step.obs[STATE]).all()
    env.reset([0], [5], ["push"])
    assert not env.step_chunk(noise(1, 1, 4), [0]).done.any()


def test_the_recorded_step_is_the_eager_step() -> None:
    actions, results = noise(4, 2, 6), []
    for graph in (True, False):
        with IsaacVecEnv(["lift"], num_envs=2, image_px=16, graph=graph) as env:
            env.reset([0, 1], [1, 2], ["lift", "lift"])
            step = env.step_chunk(actions, [0, 1])
            results.append((env.privileged([0, 1]), step.reward, step.obs[IMAGE]))
    for recorded, eager in zip(*results, strict=True):
        np.testing.assert_array_equal(recorded, eager)


def test_observations_can_be_randomised(env: IsaacVecEnv) -> None:
    ids, tasks, actions = list(env.lockstep[0])[:2], [env.hosts(env.lockstep[0][0])[0]] * 2, np.full((2, 4, 5), 0.3, np.float32)
    first, frames = env.reset(ids, [3, 4], tasks), env.step_chunk(actions, ids, "all").frames
    randomize = Randomize(image=ImageTerms(noise=(5.0, 5.0)), timing=TimingTerms(state_delay_s=(0.1, 0.1)))
    px = first[IMAGE].shape[1]
    with sim.make("isaaclab", tasks[:1], 2, image_px=px, randomize=randomize) as other:
        seen, late = other.reset([0, 1], [3, 4], tasks), other.step_chunk(actions, [0, 1], "all").frames
    assert 4 < (seen[IMAGE].astype(int) - first[IMAGE]).std() < 5.5
    np.testing.assert_allclose(late[3][STATE], frames[1][STATE], atol=1e-4)
    np.testing.assert_array_equal(late[1][STATE], seen[STATE])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": ["pusch"]}, "unknown tabletop task 'pusch'; did you mean push"),
        (
            {"tasks": ["push", "place", "drawer"], "num_envs": 2},
            "need 3 scenes .blocks, bowl, cabinet. and at least one environment each, got 2",
        ),
        ({"camera": "corner2"}, "unknown camera 'corner2'"),
        ({"robot": "pandah"}, "unknown robot 'pandah'"),
    ],
)
def test_make_refuses(change: dict[str, object], message: str) -> None:
    with pytest.raises(SimulationError, match=message):
        sim.make(**{"backend": "isaaclab", "tasks": ["push"], "num_envs": 1} | change)  # type: ignore[arg-type]


def test_other_backends_simulate_on_the_cpu_only() -> None:
    with pytest.raises(SimulationError, match="the mujoco backend simulates on the CPU; got device 'cuda'"):
        sim.make("mujoco", ["push"], 1, device="cuda")
