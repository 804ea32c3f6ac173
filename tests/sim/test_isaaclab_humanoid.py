"""The humanoid in Isaac Lab, really simulated on the CPU: the same robot, stance, pushes and task as in MuJoCo."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

from sim.humanoid.env import HumanoidVecEnv
from sim.humanoid.g1 import ARM_JOINTS
from sim.humanoid.pushes import push
from sim.vec_env import PICTURE
from tests.sim.contract import check_neighbours, check_restore, noise

pytestmark = [
    pytest.mark.skipif(find_spec("isaaclab") is None, reason="needs the extra 'isaac'"),
    pytest.mark.timeout(1800),  # the first start on a machine compiles kernels for some minutes
]

N, TEN_SECONDS = 4, 500
EVERYONE, NAMES = list(range(N)), ["hands"] * N
STATE, TEXT = "observation.state", "task"
SEEDS = [seed for seed in range(200) if np.any([push(seed, t) for t in np.arange(0, 0.1, 0.005)])][:N]
"""Of episodes that begin with a push."""


@pytest.fixture(scope="module")
def env() -> Iterator[HumanoidVecEnv]:
    with HumanoidVecEnv(["hands"], N, horizon=TEN_SECONDS, backend="isaaclab") as env:
        yield env


@pytest.fixture(scope="module")
def mujoco() -> Iterator[HumanoidVecEnv]:
    with HumanoidVecEnv(["hands"], N, workers=1, horizon=TEN_SECONDS) as env:
        yield env


def arms(seed: int, n: int, length: int) -> np.ndarray:
    """Random actions."""
    return noise(seed, n, length, len(ARM_JOINTS))


def told(env: HumanoidVecEnv, change: np.ndarray, steps: int) -> np.ndarray:
    """`(N, 57)` privileged state a while after servos were told to be `change` `(14,)` from where they are [rad]."""
    env.reset(EVERYONE, SEEDS, NAMES)
    slots = env.snapshot(EVERYONE)
    env.restore(EVERYONE, [replace(slot, command=(slot.command + change).astype(np.float32)) for slot in slots])
    env.step_chunk(np.zeros((N, steps, len(ARM_JOINTS))), EVERYONE)
    return env.privileged(EVERYONE)


def joints(**angles: float) -> np.ndarray:
    """`(14,)` of named joints [rad], 0 elsewhere."""
    return np.array([angles.get(joint.removesuffix("_joint"), 0.0) for joint in ARM_JOINTS])


def test_episodes_start_and_go_on_as_in_mujoco(env: HumanoidVecEnv, mujoco: HumanoidVecEnv) -> None:
    assert env.spec == mujoco.spec and env.lockstep == (tuple(EVERYONE),)
    here, there = (each.reset(EVERYONE, SEEDS, NAMES) for each in (env, mujoco))
    np.testing.assert_allclose(here[STATE], there[STATE], atol=1e-6)
    np.testing.assert_array_equal(here[TEXT], there[TEXT])
    before = env.privileged(EVERYONE)
    np.testing.assert_allclose(before, mujoco.privileged(EVERYONE), atol=1e-6)
    np.testing.assert_allclose(env.expert_chunk(EVERYONE, 8), mujoco.expert_chunk(EVERYONE, 8), atol=1e-3)
    actions = arms(0, N, 16)
    here, there = (each.step_chunk(actions, EVERYONE) for each in (env, mujoco))
    np.testing.assert_allclose(here.obs[STATE], there.obs[STATE], atol=2e-4)
    np.testing.assert_allclose(here.reward, there.reward, atol=2e-4)
    after, same = env.privileged(EVERYONE), mujoco.privileged(EVERYONE)
    np.testing.assert_allclose(after, same, atol=5e-3)
    np.testing.assert_allclose(after[:, 48:51], same[:, 48:51], atol=1e-4)
    assert (np.abs(after[:, 48:50] - before[:, 48:50]).max(1) > 2e-3).all(), "the push tilts the pelvis, much more than the tolerance"


@pytest.mark.parametrize(
    ("change", "steps"),
    [
        (joints(left_shoulder_pitch=-0.8, right_elbow=0.8, left_wrist_pitch=0.7, right_wrist_yaw=-0.7), 5),
        (joints(left_shoulder_roll=-0.9, right_shoulder_roll=0.9), 30),
    ],
    ids=["motors at their limits", "arms against the body"],
)
def test_what_limits_the_arms_is_as_in_mujoco(env: HumanoidVecEnv, mujoco: HumanoidVecEnv, change: np.ndarray, steps: int) -> None:
    here, there = told(env, change, steps), told(mujoco, change, steps)
    moved = change != 0
    assert (np.abs(there[:, :14] - there[:, 28:42])[:, moved].max(1) > 0.05).all(), "something holds them back"
    np.testing.assert_allclose(here[:, :14], there[:, :14], atol=2e-3)
    np.testing.assert_allclose(here[:, 42:51], there[:, 42:51], atol=2e-3)


def test_it_stands_for_ten_seconds_and_falls_when_its_arms_throw_it(env: HumanoidVecEnv, mujoco: HumanoidVecEnv) -> None:
    throw = np.zeros((N, TEN_SECONDS, 14), np.float32)
    throw[0][:, [0, 7]] = -1.0  # shoulders swing forward and up as fast as they can, and on
    throw[0][60:, [0, 7]] = np.sign(np.sin(np.arange(TEN_SECONDS - 60) / 3))[:, None]
    ends = []
    for each in (env, mujoco):
        each.reset(EVERYONE, SEEDS, NAMES)
        step = each.step_chunk(throw, EVERYONE)
        assert step.executed[0] < 200 and not step.success[0].any()
        assert (step.executed[1:] == TEN_SECONDS).all() and not step.success[1:].any()
        ends.append(each.privileged(EVERYONE))
    np.testing.assert_allclose(ends[0][1:, 42:51], ends[1][1:, 42:51], atol=1e-2)


def test_restore_repeats_bit_for_bit_in_any_environment(env: HumanoidVecEnv) -> None:
    check_restore(env, [0, 1], [3, 2], NAMES[:2])


def test_a_picture_is_drawn_of_every_step(env: HumanoidVecEnv) -> None:
    env.reset([0, 1], SEEDS[:2], NAMES[:2])
    frames = env.step_chunk(env.expert_chunk([0, 1], 12), [0, 1], render="all").frames
    assert len(frames) == 12 and frames[0][PICTURE].shape == (2, 192, 192, 3)
    assert not np.array_equal(frames[0][PICTURE], frames[-1][PICTURE]), "the arms moved"


def test_environments_that_are_left_out_do_not_move(env: HumanoidVecEnv) -> None:
    check_neighbours(env, EVERYONE, NAMES)


def test_demonstrations_rest_at_the_goal_and_replay(env: HumanoidVecEnv) -> None:
    env.reset([0, 1], [1, 2], NAMES[:2])
    clean, noisy = env.demonstrate([0, 1], [0.0, 0.3])
    assert clean.succeeded and noisy.succeeded and clean.success[-10:].all()
    assert (clean.action == clean.executed).all() and (noisy.action != noisy.executed).any()
    env.reset([2], [1], NAMES[:1])
    replayed = env.step_chunk(clean.executed[None], [2])
    assert replayed.terminated.all() and replayed.executed[0] == 1 + clean.success.argmax()


def test_a_divergence_stays_in_its_own_environment(env: HumanoidVecEnv) -> None:
    env.reset([0, 1], [5, 6], NAMES[:2])
    [broken] = env.snapshot([0])
    broken.physics.clone.velocities[:] = np.nan
    env.restore([0], [broken])
    step = env.step_chunk(arms(1, 2, 4), [0, 1])
    assert step.diverged.tolist() == [True, False] and step.truncated.tolist() == [True, False]
    assert step.executed.tolist() == [1, 4] and np.isfinite(step.obs[STATE]).all() and np.isfinite(step.reward).all()
    env.reset([0], [5], NAMES[:1])
    assert not env.step_chunk(arms(1, 1, 4), [0]).done.any()


def test_the_recorded_step_is_the_eager_step(env: HumanoidVecEnv) -> None:
    actions, results = arms(4, N, 3), []
    with HumanoidVecEnv(["hands"], N, backend="isaaclab", graph=False) as eager:
        for each in (env, eager):
            each.reset(EVERYONE, SEEDS, NAMES)
            each.step_chunk(actions, EVERYONE)
            results.append(each.privileged(EVERYONE))
    np.testing.assert_array_equal(*results)
