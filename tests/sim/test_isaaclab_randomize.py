"""Randomisation in Isaac Lab: MuJoCo's numbers in each clone's row, recorded against eager steps, repeatable, restored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import mujoco
import numpy as np
import pytest

import sim
from sim.isaaclab.env import IsaacVecEnv
from sim.isaaclab.settings import IsaacSettings
from sim.mujoco.physics import Physics
from sim.randomize import Randomize, Randomizer, Variation
from sim.robots import ARM7
from sim.settings import Settings
from sim.tasks import TASKS
from sim.workers.process import WorkerProcess
from tests.sim.contract import assert_same, assert_same_step, noise
from tests.sim.test_randomize import WIDE

pytestmark = [
    pytest.mark.skipif(find_spec("isaaclab") is None, reason="needs the extra 'isaac'"),
    pytest.mark.timeout(1800),  # the first start on a machine compiles kernels for some minutes
]

IMAGE, STATE = "observation.images.front", "observation.state"
AT_ONCE = {"action_delay_s": (1e-9, 1e-9)}
"""Commands go through what makes them late, and come at once."""


def make(tasks: list[str], num_envs: int, graph: bool = True, **groups: Any) -> IsaacVecEnv:
    return IsaacVecEnv(tasks, num_envs, image_px=32, graph=graph, randomize=Randomize(**groups))


def apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Mean difference of images `(n,)` [grey level]."""
    return np.abs(a.astype(int) - b).mean((1, 2, 3))


@pytest.fixture(scope="module")
def plain() -> Iterator[IsaacVecEnv]:
    with IsaacVecEnv(["lift"], 2, image_px=32) as env:
        yield env


@pytest.fixture(scope="module")
def clones() -> Iterator[WorkerProcess]:
    """A worker whose solver can be looked into."""
    randomize = Randomize(**{name: WIDE[name] for name in ("physics", "camera", "light", "colour")})
    settings = Settings("arm7", "ee_delta", 128, "front", None, "train", randomize)
    worker = WorkerProcess("tests.sim.isaaclab_clones", IsaacSettings(settings, "drawer", (0, 1, 2), "cpu", graph=True))
    yield worker
    worker.close()


def draw(seed: int, **groups: Any) -> Variation:
    return Randomizer(Randomize(**groups), 20.0).draw(seed, TASKS["drawer"].scene, ARM7)


def test_the_solver_holds_mujocos_numbers_and_the_nominal_bits_again_afterwards(clones: WorkerProcess) -> None:
    three, four = (draw(seed, physics=WIDE["physics"]) for seed in (3, 4))
    states, numbers = [], []
    for variations in ([], [three, four, three], [four, three, four], [draw(3)] * 3):
        states.append(clones.request("run", variations).result())
        numbers.append(clones.request("numbers").result())
    for row, variation in enumerate((three, four, three)):
        own = Physics(TASKS["drawer"].scene, ARM7, own_model=True)
        own.vary(variation)
        for name, expected in mujoco_numbers(own.model).items():
            np.testing.assert_allclose(numbers[1][row][name], expected, rtol=2e-5, err_msg=f"{name} of clone {row}")
            assert (np.abs(numbers[0][row][name] / expected - 1) > 1e-3).any(), f"{name} was not varied"
        for name, nominal in numbers[0][row].items():
            np.testing.assert_array_equal(numbers[3][row][name], nominal, err_msg=name)
    for row, other in ((0, 1), (1, 0), (2, 1)):
        for nominal, varied, elsewhere, back in zip(states[0][row], states[1][row], states[2][other], states[3][row], strict=True):
            np.testing.assert_array_equal(varied, elsewhere, err_msg="the same variation moves otherwise in another clone")
            np.testing.assert_array_equal(nominal, back, err_msg="back at nominal, a clone moves otherwise than one never varied")
        assert np.abs(states[1][row][0] - states[0][row][0]).max() > 1e-3


def mujoco_numbers(model: mujoco.MjModel) -> dict[str, np.ndarray]:
    scene = TASKS["drawer"].scene
    parts = [body.name for body in scene.bodies] + [f"{fixture.name}_moving" for fixture in scene.fixtures]
    bodies = [model.body(part).id for part in parts]
    servos = [model.actuator(joint).id for joint in (*ARM7.joints, *ARM7.fingers)]
    return {
        "body_mass": model.body_mass[bodies],
        "body_inertia": np.sort(model.body_inertia[bodies], -1),
        "body_subtreemass": model.body_subtreemass[bodies],
        "body_invweight0": model.body_invweight0[bodies, 0],
        "dof_invweight0": model.dof_invweight0[model.body_dofadr[bodies]],
        "friction": np.unique(model.geom_friction[:, 0]),
        "stiffness": model.actuator_gainprm[servos, 0],
        "stiffness_bias": model.actuator_biasprm[servos, 1],
        "damping_bias": model.actuator_biasprm[servos, 2],
        "meaninertia": np.array(model.stat.meaninertia),
    }


@pytest.mark.parametrize(
    ("terms", "least"),
    [
        ({"camera_position_m": (0.05, 0.03, -0.05)}, 2),
        ({"camera_lookat_m": (0.02, 0.05, 0.0)}, 2),
        ({"fovy_deg": 5.0}, 2),
        ({"light_tilt_deg": (-25.0, 0.0)}, 4),
        ({"light_intensity": 0.6}, 20),
        ({"hue_deg": (8.0,) * 3, "saturation": (0.6,) * 3}, 0.3),
        ({"value": (0.6,) * 3}, 1),
        ({"surface_hue_deg": (0.0, 180.0)}, 0.3),
        ({"surface_hue_deg": (90.0, 0.0)}, 4),
        ({"surface_value": (0.5, 0.5)}, 20),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_each_look_changes_the_image_as_in_mujoco(clones: WorkerProcess, terms: dict[str, Any], least: float) -> None:
    before, after = (clones.request("draw", variation).result() for variation in (draw(0), replace(draw(0), **terms)))
    newton, mujoco = (coarse(now) - coarse(then) for now, then in zip(after, before, strict=True))
    assert np.abs(newton).mean() > least
    assert np.abs(newton - mujoco).mean() < 0.5 * np.abs(mujoco).mean()


def coarse(image: np.ndarray) -> np.ndarray:
    """Means of 4 x 4 pixels: Newton's edges are not smooth, MuJoCo's are."""
    px = len(image) // 4
    return image.reshape(px, 4, px, 4, 3).mean((1, 3))


def test_motion_and_images_vary_as_in_mujoco() -> None:
    """The light is tilted in the test above alone: the renderers' shading of grazing light differs."""
    groups = {name: WIDE[name] for name in ("physics", "camera", "colour")} | {"light": {"intensity": (0.6, 1.4)}}
    names, seeds, actions, results = ["drawer"] * 2, [11, 14], noise(0, 2, 8), []
    for backend in ("isaaclab", "mujoco"):
        with sim.make(backend, names[:1], 2, 1, image_px=32, randomize=Randomize(**groups)) as env:
            results.append((env.reset([0, 1], seeds, names)[IMAGE], env.step_chunk(actions, [0, 1])))
    with sim.make("mujoco", names[:1], 2, 1, image_px=32) as fixed:
        nominal, unvaried = fixed.reset([0, 1], seeds, names)[IMAGE], fixed.step_chunk(actions, [0, 1])
    (image, step), (other_image, other_step) = results
    np.testing.assert_allclose(step.obs[STATE], other_step.obs[STATE], atol=1e-3)
    np.testing.assert_allclose(step.reward, other_step.reward, atol=2e-3)
    assert (np.abs(other_step.obs[STATE] - unvaried.obs[STATE]).max(1) > 5e-3).all(), "so close because nothing varies?"
    assert (apart(image, other_image) < 8).all() and (apart(image, nominal) > 2 * apart(image, other_image)).all()


def test_late_commands_under_varied_physics_step_alike_recorded_eagerly_and_in_mujoco() -> None:
    actions, tasks, results = noise(4, 2, 6), ["lift", "lift"], []
    randomize = Randomize(physics=WIDE["physics"], timing={"action_delay_s": (0.0, 0.08)})
    mujoco_env = sim.make("mujoco", tasks[:1], 2, 1, image_px=32, randomize=randomize)
    recorded_env, eager_env = (IsaacVecEnv(tasks[:1], 2, image_px=32, graph=graph, randomize=randomize) for graph in (True, False))
    for started in (recorded_env, eager_env, mujoco_env):
        with started as env:
            env.reset([0, 1], [1, 2], tasks)
            step = env.step_chunk(actions, [0, 1])
            results.append((env.privileged([0, 1]), step.reward, step.obs[STATE], step.obs[IMAGE]))
    for recorded, eager in zip(*results[:2], strict=True):
        np.testing.assert_array_equal(recorded, eager)
    np.testing.assert_allclose(results[0][2], results[2][2], atol=1e-3)


def test_commands_that_come_at_once_are_those_of_a_whole_step(plain: IsaacVecEnv) -> None:
    actions, tasks = noise(5, 2, 8), ["lift", "lift"]
    first = plain.reset([0, 1], [1, 2], tasks)
    with make(["lift"], 2, timing=AT_ONCE) as env:
        assert_same(env.reset([0, 1], [1, 2], tasks), first)
        assert_same_step(env.step_chunk(actions, [0, 1]), plain.step_chunk(actions, [0, 1]))


def test_late_images_are_the_earlier_ones(plain: IsaacVecEnv) -> None:
    """Two control steps late, drawn from states that were saved; what is drawn leaves no trace in the physics."""
    actions, tasks = noise(6, 2, 8), ["lift", "lift"]
    start, prompt = plain.reset([0, 1], [3, 4], tasks), plain.step_chunk(actions, [0, 1], "all").frames
    with make(["lift"], 2, timing={"image_delay_s": (0.1, 0.1)}) as env:
        assert_drawn_alike(env.reset([0, 1], [3, 4], tasks)[IMAGE], start[IMAGE])
        late = env.step_chunk(actions, [0, 1], "all").frames
        env.reset([0, 1], [3, 4], tasks)
        last = env.step_chunk(actions, [0, 1], "last").obs
        for name in (IMAGE, STATE):
            np.testing.assert_array_equal(last[name], late[-1][name])
    for k in range(8):
        assert_drawn_alike(late[k][IMAGE], (prompt[k - 2] if k >= 2 else start)[IMAGE])
        np.testing.assert_array_equal(late[k][STATE], prompt[k][STATE])
    assert (apart(late[-1][IMAGE], prompt[-1][IMAGE]) > 0.1).all()


def assert_drawn_alike(image: np.ndarray, camera: np.ndarray) -> None:
    """Drawn clone by clone, or by Isaac Lab's camera: the same but for rounding."""
    difference = np.abs(image.astype(int) - camera)
    assert difference.max() <= 3 and (difference > 0).mean() < 1e-3


def test_everything_at_once_is_repeated_restored_and_untouched_by_neighbours() -> None:
    tasks, actions, later = ["push", "lift", "push"], noise(1, 3, 9), noise(2, 3, 10)
    with make(["push", "lift"], 3, **WIDE) as env:
        first, ids = env.reset([0, 1, 2], [5, 6, 7], tasks), [0, 1, 2]
        step = env.step_chunk(actions, ids)
        before, obs = env.snapshot(ids), env.restore(ids, env.snapshot(ids))
        assert_same(obs, step.obs)
        assert all(slot.variation.seed == seed and slot.line and len(slot.seen) > 1 for slot, seed in zip(before, (5, 6, 7), strict=True))
        env.expert_chunk(ids, 6)
        second = env.step_chunk(later, ids)
        for row, alone in enumerate((2, 0, 1)):
            own = {name: value[row : row + 1] for name, value in first.items()}
            assert_same(env.reset([alone], [5 + row], [tasks[row]]), own)
            assert_same(env.step_chunk(actions[row : row + 1], [alone]).obs, {name: value[row : row + 1] for name, value in obs.items()})
        env.reset(ids, [9, 9, 9], ["lift", "push", "lift"])
        elsewhere = [2, 0, 1]
        assert_same(env.restore(elsewhere, before), obs)
        assert_same_step(env.step_chunk(later, elsewhere), second)
