"""LIBERO behind the `VecEnv` contract, the real library in a worker of its own environment; and the same observations as LeRobot's."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import sim
from policies.interface import UserError
from sim.libero.expert import OPEN, Seen, act
from sim.libero.library import environment
from sim.vec_env import SEED_RANGES, SimulationError
from sim.workers.vec_env import WorkerVecEnv
from tests.sim import contract
from tests.sim.contract import assert_same, check_expert_chunk, check_observations, check_restore
from tests.vla_rl.test_cli import preset
from vla_rl.cli import main
from vla_rl.config import EvalConfig
from vla_rl.evaluate import require_evaluable

SOUP, STOVE, DRAWER = "libero_object_0", "libero_spatial_7", "libero_goal_0"
FRONT, WRIST, STATE, TEXT = "observation.images.image", "observation.images.image2", "observation.state", "task"
TEST = SEED_RANGES["test"].start


@pytest.fixture(scope="module")
def env() -> Iterator[WorkerVecEnv]:
    with sim.make("libero", [SOUP], num_envs=2, workers=1, image_px=32) as env:
        yield env


def noise(seed: int, length: int) -> np.ndarray:
    """Random actions of one environment."""
    return contract.noise(seed, 1, length, 7)


def test_observations_follow_the_spec(env: WorkerVecEnv) -> None:
    obs = check_observations(env, [1, 0], [TEST, 3], [SOUP, SOUP])
    assert (env.spec.control_hz, env.spec.action.dim, env.horizon, env.test_states) == (20.0, 7, 280, 50)
    assert {FRONT, WRIST, STATE, TEXT} == set(obs) and obs[TEXT][0] == "pick up the alphabet soup and place it in the basket"
    assert env.privileged([1, 0]).shape == (2, 22)


def test_start_depends_on_the_seed_alone(env: WorkerVecEnv) -> None:
    for seed, other in ((4, 5), (TEST + 4, TEST + 5)):
        first = env.reset([0], [seed], [SOUP])
        env.step_chunk(noise(0, 6), [0], render="none")
        different = env.reset([0], [other], [SOUP])
        assert_same(first, env.reset([1], [seed], [SOUP]))
        assert (first[FRONT] != different[FRONT]).any()


def test_restore_repeats_bit_for_bit_in_another_environment(env: WorkerVecEnv) -> None:
    check_restore(env, [0], [1], [SOUP])


def test_expert_solves_and_the_episode_ends_there(env: WorkerVecEnv) -> None:
    for seed, std in ((0, 0.0), (TEST, 0.0), (1, 0.1)):
        env.reset([0], [seed], [SOUP])
        [shown] = env.demonstrate([0], std, render=False)
        assert shown.succeeded and len(shown.success) < 200
    env.reset([0], [1], [SOUP])
    chunk = env.step_chunk(shown.executed[None], [0], render="none")
    assert chunk.terminated[0] and chunk.executed[0] == len(shown.success) and chunk.reward[0, -1] == 1
    with pytest.raises(SimulationError, match=r"environment 0 .libero_object_0, seed 1. has ended: reset it"):
        env.step_chunk(noise(0, 1), [0])


def test_expert_chunk_changes_nothing_and_is_what_the_expert_does(env: WorkerVecEnv) -> None:
    check_expert_chunk(env, [0], [SOUP])
    assert env.expert_chunk([0], 1)[0, 0, 6] == OPEN


def test_too_many_test_states_are_refused_before_the_first_episode(env: WorkerVecEnv) -> None:
    require_evaluable([SOUP], env, EvalConfig(episodes=50))
    with pytest.raises(UserError, match="the test split has 50 seeds, got skip=10 and episodes=50"):
        require_evaluable([SOUP], env, EvalConfig(episodes=50, skip=10))
    with pytest.raises(SimulationError, match="LIBERO has 50 test states of each task, got seed 2000050"):
        env.reset([0], [TEST + 50], [SOUP])


def test_bad_input_is_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SimulationError, match="unknown LIBERO task 'libero_objekt_0'; did you mean"):
        sim.make("libero", ["libero_objekt_0"], 1)
    with pytest.raises(SimulationError, match="unknown camera 'corner2'; allowed: both, front"):
        sim.make("libero", [SOUP], 1, camera="corner2")
    with pytest.raises(SimulationError, match=r"one phrasing for each task: set sim\.paraphrases to train"):
        sim.make("libero", [SOUP], 1, paraphrases="held_out")
    with pytest.raises(SimulationError, match="learned experts are for tabletop tasks"):
        sim.make("libero", [SOUP], 1, experts=["x"])
    with pytest.raises(SimulationError, match="the libero backend simulates on the CPU; got device 'cuda'"):
        sim.make("libero", [SOUP], 1, device="cuda")
    where = preset(tmp_path, sim={"backend": "libero", "tasks": [SOUP]})
    assert main(["export", str(tmp_path), "--out", str(tmp_path / "bundle"), "--preset", where]) == 2
    assert "which no robot's profile has" in capsys.readouterr().err


def test_tasks_share_a_worker_and_forget_what_was_before() -> None:
    """Three scenes, each with an OpenGL context; two have fixtures, on which things are placed."""
    with sim.make("libero", [SOUP, STOVE, DRAWER], num_envs=3, workers=1, image_px=32, camera="front") as env:
        soup = env.reset([0], [0], [SOUP])
        first, privileged = env.reset([1], [0], [STOVE]), env.privileged([1])
        assert "on the stove" in first[TEXT][0]
        assert_same(soup, env.reset([0], [0], [SOUP]))
        env.reset([1], [1], [STOVE])
        assert_same(first, env.reset([1], [0], [STOVE]))
        np.testing.assert_array_equal(env.privileged([1]), privileged)
        assert env.reset([2], [0], [DRAWER])[TEXT][0] == "open the middle drawer of the cabinet"
        with pytest.raises(SimulationError, match="task 'libero_goal_0' has no scripted expert; those of libero_object have one"):
            env.expert_chunk([2], 2)


def test_expert_approaches_from_above_grasps_carries_and_lets_go() -> None:
    """By hand: an action of 1 is 0.05 m or 0.5 rad."""
    far = Seen(np.array([0.0, 0.0, 0.3]), np.array([0.0, 0.0, 0.25]), np.array([0.02, 0.0, 0.05]), np.array([0.0, 0.25, 0.0]), *[False] * 3)
    np.testing.assert_allclose(act(far), [0.4, 0, -0.4, 0, 0, 0.5, -1], atol=1e-6)  # to 0.28 m, no higher than it carries
    there = far._replace(hand=np.array([0.02, 0.0, 0.055]), tilt=np.zeros(3))
    np.testing.assert_allclose(act(there), [0, 0, -0.1, 0, 0, 0, 1], atol=1e-6)
    held = there._replace(touched=True, pressed=True)
    np.testing.assert_allclose(act(held), [0, 0, 1, 0, 0, 0, 1], atol=1e-6)
    over = held._replace(hand=np.array([0.0, 0.25, 0.28]))
    np.testing.assert_allclose(act(over), [0, 0, 0, 0, 0, 0, -1], atol=1e-6)
    np.testing.assert_allclose(act(over._replace(touched=False, solved=True)), [0, 0, 0, 0, 0, 0, -1], atol=1e-6)


AS_LEROBOT = """
import numpy as np, torch
import libero.libero
from libero.libero import benchmark, get_libero_path
libero.libero._assets_path_cache = get_libero_path("assets")
from lerobot.envs.libero import LiberoEnv
from lerobot.envs.utils import preprocess_observation
from lerobot.processor.env_processor import LiberoProcessorStep
from sim.libero.scene import Scene
from sim.libero.env import Settings

theirs = LiberoEnv(benchmark.get_benchmark_dict()["libero_object"](), 0, "libero_object", obs_type="pixels_agent_pos",
                   observation_width=32, observation_height=32, episode_index=3)
ours = Scene("libero_object_0", Settings(32, "both", None))
raw, _ = theirs.reset(seed=0)
ours.reset(2_000_003)

def same(raw):
    robot = {part: {name: torch.as_tensor(value)[None] for name, value in values.items()} for part, values in raw["robot_state"].items()}
    images = {f"observation.images.{name}": torch.as_tensor(image.copy()).permute(2, 0, 1)[None] for name, image in raw["pixels"].items()}
    seen = LiberoProcessorStep().observation(images | {"observation.robot_state": robot})
    np.testing.assert_allclose(ours.state(), seen["observation.state"][0].numpy(), rtol=0, atol=1e-6)
    for name, image in ours.images().items():
        np.testing.assert_array_equal(seen[f"observation.images.{name}"][0].permute(1, 2, 0).numpy(), image, err_msg=name)

same(raw)
for action in np.random.default_rng(0).uniform(-1, 1, (6, 7)):
    raw, reward, terminated, _, _ = theirs.step(action)
    assert (reward, terminated) == ours.step(action)
    same(raw)
print("same")
"""


def test_observations_are_those_of_lerobot() -> None:
    """LeRobot's environment beside ours, from one of LIBERO's own states: images to the last bit, states to rounding, reward, end."""
    variables = environment()
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-P", "-c", AS_LEROBOT],
        env=os.environ | variables | {"PYTHONPATH": os.pathsep.join([root, variables["PYTHONPATH"]])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip().endswith("same"), done.stdout + done.stderr[-3000:]
