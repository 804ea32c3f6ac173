"""One task in this process: the same numbers as the library, whatever happened before."""

import os

os.environ.setdefault("MUJOCO_GL", "osmesa")

import mujoco
import numpy as np
import pytest
from metaworld.env_dict import ALL_V3_ENVIRONMENTS

from sim.metaworld.scene import PHYSICS, Scene
from sim.metaworld.state import SceneState
from sim.vec_env import SimulationError

pytestmark = pytest.mark.filterwarnings("ignore:Constant")  # the library says so of its own experts

VARIED = ("drawer-open", "door-open", "push", "door-lock", "faucet-close", "plate-slide")
"""Fixtures, movable objects, and tasks whose library code keeps views of simulator memory."""


@pytest.fixture(scope="module")
def scenes() -> dict[str, Scene]:
    return {task: Scene(task) for task in VARIED}


def assert_same(a: SceneState, b: SceneState) -> None:
    for name in ("physics", "body_pos", "site_pos", "obs"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    assert a.attributes.keys() == b.attributes.keys()
    for name, value in a.attributes.items():
        np.testing.assert_array_equal(value, b.attributes[name], err_msg=name)


def wave(k: int) -> np.ndarray:
    return np.sin(0.3 * k + np.arange(4)).astype(np.float32)


@pytest.mark.parametrize("task", VARIED)
def test_reset_after_other_episodes_equals_reset_of_a_fresh_scene(scenes, task):
    used = scenes[task]
    for seed in (3, 900_001):
        used.reset(seed)
        for _ in range(40):
            used.step(used.expert_action())
    used.reset(7)
    fresh = Scene(task)
    fresh.reset(7)
    assert_same(used.save(), fresh.save())
    for k in range(10):
        assert used.step(wave(k)) == fresh.step(wave(k))
    assert_same(used.save(), fresh.save())


@pytest.mark.parametrize("task", VARIED)
def test_stepping_on_after_load_is_bit_identical(scenes, task):
    scene = scenes[task]
    scene.reset(5)
    for _ in range(30):
        scene.step(scene.expert_action())
    saved = scene.save()
    first = [scene.step(wave(k)) for k in range(20)]
    end = scene.save()
    scene.reset(6)
    scene.load(saved)
    assert_same(scene.save(), saved)
    assert [scene.step(wave(k)) for k in range(20)] == first
    assert_same(scene.save(), end)


@pytest.mark.parametrize("task", VARIED)
def test_step_equals_the_librarys_step(scenes, task):
    scene = scenes[task]
    scene.reset(11)
    library = ALL_V3_ENVIRONMENTS[f"{task}-v3"]()
    library._set_task_called = True
    library._partially_observable = False
    del library.sawyer_observation_space
    if task == "faucet-close":
        library._random_reset_space = scene.env._random_reset_space
    library._freeze_rand_vec, library.seeded_rand_vec = False, True
    for _ in range(2):
        library.np_random = np.random.default_rng(11)
        mujoco.mj_resetData(library.model, library.data)
        library.reset_model()
    library.curr_path_length = 0
    np.testing.assert_array_equal(library._last_rand_vec, scene.env._last_rand_vec)
    np.testing.assert_array_equal(library.model.body_pos, scene.model.body_pos)
    np.testing.assert_allclose(library.data.qpos, scene.data.qpos, atol=1e-2)

    mujoco.mj_setState(library.model, library.data, scene.save().physics, PHYSICS)
    mujoco.mj_forward(library.model, library.data)
    for name, value in scene.save().attributes.items():
        setattr(library, name, value)
    for k in range(60):
        action = scene.expert_action() if k % 2 else wave(k)
        reward, success = scene.step(action)
        obs, expected, _, _, info = library.step(action)
        assert (reward, success) == (float(expected), bool(info["success"]))
        np.testing.assert_array_equal(scene.obs, obs)
        np.testing.assert_array_equal(scene.data.qpos, library.data.qpos)


@pytest.mark.parametrize("task", VARIED)
def test_placement_varies_with_the_seed(scenes, task):
    seen = []
    for seed in (0, 1, 2, 3, 4, 1_000_000, 2_000_000):
        scenes[task].reset(seed)
        seen.append(scenes[task].env._last_rand_vec)
    assert len(np.unique(np.round(seen, 4), axis=0)) == len(seen)


def test_observation_after_reset_shows_the_placement(scenes):
    """The library's own first observation shows where the drawer stood one draw earlier."""
    scene = scenes["drawer-open"]
    for seed in (1, 2):
        scene.reset(seed)
        np.testing.assert_allclose(scene.obs[4:7], scene.model.body("drawer").pos + np.array([0, -0.17, 0.09]), atol=5e-3)
        np.testing.assert_array_equal(scene.obs[:18], scene.obs[18:36])


def test_faucet_tasks_start_alike(scenes):
    """Same scene for the same seed: only the instruction decides."""
    opening, closing = Scene("faucet-open"), scenes["faucet-close"]
    for seed in range(5):
        opening.reset(seed)
        closing.reset(seed)
        np.testing.assert_array_equal(opening.data.xpos, closing.data.xpos)
        np.testing.assert_array_equal(opening.data.qpos, closing.data.qpos)


def test_unstable_physics_raises_and_leaves_no_trace(scenes):
    scene = scenes["drawer-open"]
    scene.reset(1)
    saved = scene.save()
    expected = scene.step(wave(0))
    scene.data.qvel[0] = np.nan
    with pytest.raises(SimulationError, match="unstable"):
        scene.step(wave(1))
    scene.load(saved)
    assert scene.step(wave(0)) == expected
