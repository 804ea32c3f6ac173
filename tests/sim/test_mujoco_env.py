"""The `VecEnv` contract of the MuJoCo backend, over real worker processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import pytest

import sim
from sim.robots import ARM7, ROBOTS
from sim.tasks import TASKS
from sim.tasks.blocks import MATS
from sim.vec_env import SimulationError
from sim.workers.vec_env import WorkerVecEnv
from tests.sim.contract import (
    check_expert_chunk,
    check_neighbours,
    check_observations,
    check_restore,
    check_starts,
    check_success,
    check_time_limit,
)

ALL = tuple(TASKS)
FIVE = ("reach", "push", "lift", "place", "drawer")
IMAGE, STATE, TEXT = "observation.images.front", "observation.state", "task"


@pytest.fixture(scope="module")
def env() -> Iterator[WorkerVecEnv]:
    with sim.make("mujoco", ALL, num_envs=8, workers=2, image_px=32) as env:
        yield env


def test_observations_follow_the_spec(env: WorkerVecEnv) -> None:
    obs = check_observations(env, [5, 0, 3], [1, 2, 3], ["push", "drawer", "place"])
    assert (env.spec.embodiment, env.spec.control_hz, env.spec.action.dim) == ("arm7", 20.0, 5)
    assert "drawer" in obs[TEXT][1]


def test_start_depends_on_task_and_seed_alone(env: WorkerVecEnv) -> None:
    check_starts(env, range(5), range(3, 8), FIVE)


def test_restore_repeats_bit_for_bit_in_any_environment(env: WorkerVecEnv) -> None:
    tasks = ["drawer", "push", "lift", "place"]
    check_restore(env, [0, 1, 2, 3], [7, 4, 5, 6], tasks, meanwhile=tasks[::-1])


def test_an_episode_does_not_depend_on_its_neighbours(env: WorkerVecEnv) -> None:
    check_neighbours(env, range(8), ["lift", "push"] * 4)


def test_success_ends_the_episode_inside_the_chunk(env: WorkerVecEnv) -> None:
    assert 20 < check_success(env, [4, 1], "lift", 80) < 60


def test_time_limit_inside_the_chunk(env: WorkerVecEnv) -> None:
    check_time_limit(env, 2, "reach", 60)


def test_expert_chunk_changes_nothing_and_is_what_the_expert_does(env: WorkerVecEnv) -> None:
    check_expert_chunk(env, [0, 1], ["push", "drawer"])


def test_experts_come_to_rest_after_success() -> None:
    """A label near the goal must not lead past it: the last step before success, repeated, would."""
    with sim.make("mujoco", ["reach"], 4, 1, image_px=16, control="joint_delta") as env:
        env.reset(range(4), range(4), ["reach"] * 4)
        chunk = env.expert_chunk(range(4), 40)[:, :, :-1]
    assert np.abs(chunk[:, 0]).max(1).min() > 0.2, "they start away from the goal"
    assert np.abs(chunk[:, -1]).max() < 0.05


def test_demonstrations(env: WorkerVecEnv) -> None:
    tasks = ["drawer", "lift", "push", "place"]
    first = env.reset(range(4), [8, 9, 10, 11], tasks)
    quiet = env.demonstrate(range(4), noise_std=0.0)
    for row, demo in enumerate(quiet):
        steps = len(demo.success)
        assert (demo.task, demo.seed, demo.succeeded) == (tasks[row], 8 + row, True)
        assert 8 <= demo.success.sum() <= 9 and not demo.success[0], "it goes on for 8 steps after the first in success"
        assert demo.obs[IMAGE].shape == (steps, 32, 32, 3) and demo.obs[STATE].shape == (steps, 15)
        np.testing.assert_array_equal(demo.action, demo.executed)
    env.reset(range(4), [8, 9, 10, 11], tasks)
    np.testing.assert_array_equal(first[IMAGE][1], quiet[1].obs[IMAGE][0])
    assert first[TEXT][1] == quiet[1].instruction
    replayed = env.step_chunk(quiet[1].executed[None], [1])
    assert replayed.terminated.all() and replayed.executed[0] == 1 + quiet[1].success.argmax()
    env.reset(range(4), [8, 9, 10, 11], tasks)
    for demo in env.demonstrate(range(4), noise_std=0.3, render=False):
        assert IMAGE not in demo.obs and np.abs(demo.executed).max() <= 1
        free = (np.abs(demo.action) < 0.2) & (np.abs(demo.executed) < 1)
        assert 0.2 < (demo.executed - demo.action)[free].std() < 0.4


def solved(robot: str, control: Literal["ee_delta", "joint_delta"], tasks: Sequence[str], episodes: int) -> dict[str, float]:
    """Success rate of each task's expert on the first test seeds."""
    rates = {}
    with sim.make("mujoco", tasks, min(20, episodes), 2, image_px=16, robot=robot, control=control) as env:
        for task in tasks:
            wins = 0
            for first in range(0, episodes, 20):
                live = np.arange(min(20, episodes - first))
                env.reset(live, 2_000_000 + first + live, [task] * len(live))
                while len(live):
                    step = env.step_chunk(env.expert_chunk(live, 8), live, render="none")
                    wins += int(step.terminated.sum())
                    live = live[~step.done]
            rates[task] = wins / episodes
    return rates


@pytest.mark.parametrize("control", ["ee_delta", "joint_delta"])
def test_experts_solve_test_seeds(control: Literal["ee_delta", "joint_delta"]) -> None:
    """Every one of 10 starts from the test range, in every task; the slow test below counts a hundred."""
    rates = solved("arm7", control, ALL, 10)
    assert min(rates.values()) >= 0.95, rates


@pytest.mark.parametrize("robot", ["panda", "ur5e"])
def test_experts_need_not_know_the_robot(robot: str) -> None:
    rates = solved(robot, "ee_delta", ("push", "drawer", "peg"), 6)
    assert min(rates.values()) > 0.8, rates


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("control", ["ee_delta", "joint_delta"])
@pytest.mark.parametrize("robot", list(ROBOTS))
def test_experts_solve_a_hundred_test_seeds(robot: str, control: Literal["ee_delta", "joint_delta"]) -> None:
    rates = solved(robot, control, ALL, 100)
    assert min(rates.values()) >= 0.95, rates


def test_privileged_numbers_stay_where_they_are_as_the_suite_grows(env: WorkerVecEnv) -> None:
    """State, then goal, then the task's points as seen from the tool, then zeros: a longer scene in the suite only adds zeros."""
    env.reset(range(5), [3] * 5, list(FIVE))
    for row, task in zip(env.privileged(range(5)), FIVE, strict=True):
        start, scene = TASKS[task].draw(3), TASKS[task].scene
        size = 2 * 7 + 1 + 3 + 4 + 10 * len(scene.bodies) + 4 * len(scene.fixtures)
        np.testing.assert_allclose(row[:7], np.array(ARM7.home) + start.joint_offset, atol=1e-6)
        np.testing.assert_allclose(row[22 : 22 + 3 * len(scene.bodies)], start.body_pos.ravel(), atol=1e-6)
        goal = list(start.goal.values())
        np.testing.assert_array_equal(row[size : size + len(goal)], goal)
        end = size + len(goal) + 3 * len(TASKS[task].points)
        assert np.any(row[size + len(goal) : end]) and not np.any(row[end:])


def test_a_named_block_is_seen_from_the_tool_in_the_privileged_numbers(env: WorkerVecEnv) -> None:
    env.reset([0, 1], [3, 4], ["push"] * 2)
    for row, seed in zip(env.privileged([0, 1]), (3, 4), strict=True):
        start, tool, size = TASKS["push"].draw(seed), row[15:18], 22 + 10 * 4 + 2
        np.testing.assert_allclose(row[size : size + 3], start.body_pos[start.goal["target"]] - tool, atol=1e-6)
        np.testing.assert_allclose(row[size + 3 : size + 5], np.array(list(MATS.values()))[start.goal["mat"]] - tool[:2], atol=1e-6)


def test_an_arm_with_six_joints_sees_the_same_scene(env: WorkerVecEnv) -> None:
    names = ["place", "button"]
    env.reset([0, 1], [7, 7], names)
    expected = env.privileged([0, 1])
    with sim.make("mujoco", names, 2, 1, image_px=16, robot="ur5e", control="joint_delta") as other:
        obs = other.reset([0, 1], [7, 7], names)
        assert (other.spec.embodiment, other.spec.action.dim, obs[STATE].shape) == ("ur5e", 7, (2, 13))
        state = other.spec.entries[1]
        assert ((np.array(state.low) <= obs[STATE]) & (obs[STATE] <= np.array(state.high))).all()
        np.testing.assert_allclose(other.privileged([0, 1])[:, 20 : 20 + 12], expected[:, 22 : 22 + 12], atol=1e-5)


def test_held_out_phrasings_are_drawn_on_request() -> None:
    with sim.make("mujoco", ["drawer"], 1, 1, image_px=16, paraphrases="held_out") as other:
        said = {str(other.reset([0], [seed], ["drawer"])[TEXT][0]) for seed in range(24)}
    assert said == {text.format(way=way) for text in TASKS["drawer"].held_out for way in ("open", "close")}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": ["pusch"]}, "unknown tabletop task 'pusch'; did you mean push"),
        ({"camera": "corner2"}, "unknown camera 'corner2'.*allowed: front, side"),
        ({"robot": "pandas"}, "unknown robot 'pandas'.*did you mean panda.*allowed: arm7, panda, ur5e"),
        ({"control": "torque"}, "unknown control 'torque'.*allowed: ee_delta, joint_delta"),
        ({"num_envs": 0}, "num_envs must be at least 1, got 0"),
        ({"horizon": 0}, "horizon must be at least 1, got 0"),
    ],
)
def test_make_refuses(change: dict[str, object], message: str) -> None:
    with pytest.raises(SimulationError, match=message):
        sim.make(**{"backend": "mujoco", "tasks": ["push"], "num_envs": 1} | change)  # type: ignore[arg-type]
