"""Randomisation in MuJoCo: exact against recompiled models, repeatable, restored, and nothing when off."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import mujoco
import numpy as np
import pytest

import sim
from sim.mujoco.physics import Physics
from sim.randomize import Randomize, Randomizer
from sim.robots import ARM7
from sim.scene import CONTROL_STEPS, Scene, build
from sim.tasks import TASKS
from sim.vec_env import SimulationError
from sim.workers.vec_env import WorkerVecEnv
from tests.sim.contract import assert_same, assert_same_step, noise
from tests.sim.test_randomize import WIDE, histogram

IMAGE, STATE = "observation.images.front", "observation.state"
NAMES = ["lift", "drawer", "push", "place"]


def make(num_envs: int = 4, workers: int = 1, control: Literal["ee_delta", "joint_delta"] = "ee_delta", **groups: Any) -> WorkerVecEnv:
    return sim.make("mujoco", NAMES, num_envs, workers, image_px=32, control=control, randomize=Randomize(**groups))


@pytest.fixture(scope="module")
def wide() -> Iterator[WorkerVecEnv]:
    with make(workers=2, **WIDE) as env:
        yield env


@pytest.fixture(scope="module")
def plain() -> Iterator[WorkerVecEnv]:
    with sim.make("mujoco", NAMES, 4, 2, image_px=32) as env:
        yield env


def scaled(scene: Scene, mass: tuple[float, ...]) -> Scene:
    bodies = [replace(body, mass=body.mass * scale) for body, scale in zip(scene.bodies, mass, strict=False)]
    fixtures = [replace(fixture, mass=fixture.mass * scale) for fixture, scale in zip(scene.fixtures, mass[len(bodies) :], strict=True)]
    return replace(scene, bodies=tuple(bodies), fixtures=tuple(fixtures))


@pytest.mark.parametrize("name", ["lift", "drawer"])
def test_a_varied_model_is_the_one_that_its_numbers_compile_to_and_is_restored(name: str) -> None:
    scene = TASKS[name].scene
    physics, v = Physics(scene, ARM7, own_model=True), Randomizer(Randomize(**WIDE), 20.0).draw(3, scene, ARM7)
    physics.vary(v)
    stiffness = tuple(k * s for k, s in zip(ARM7.stiffness, v.stiffness, strict=False))
    damping = tuple(d * s for d, s in zip(ARM7.damping, v.damping, strict=False))
    robot = replace(
        ARM7,
        stiffness=stiffness,
        damping=damping,
        finger_stiffness=ARM7.finger_stiffness * v.stiffness[-1],
        finger_damping=ARM7.finger_damping * v.damping[-1],
    )
    compiled = build(scaled(scene, v.mass), robot).compile()
    compiled.geom_friction[:, 0] = build(scene, ARM7).compile().geom_friction[:, 0] * v.friction
    assert max(v.mass) > 1.1 and v.friction != 1
    for field in ("body_mass", "body_inertia", "body_invweight0", "dof_invweight0", "dof_M0", "body_subtreemass", "actuator_acc0"):
        np.testing.assert_allclose(getattr(physics.model, field), getattr(compiled, field), rtol=1e-9, err_msg=field)
    for field in ("geom_friction", "actuator_gainprm", "actuator_biasprm"):
        np.testing.assert_allclose(getattr(physics.model, field), getattr(compiled, field), rtol=1e-12, err_msg=field)
    physics.vary(Randomizer(Randomize(), 20.0).draw(3, scene, ARM7))
    shared = Physics(scene, ARM7).model
    for field in ("body_mass", "body_inertia", "geom_friction", "actuator_gainprm", "actuator_biasprm", "dof_invweight0"):
        np.testing.assert_array_equal(getattr(physics.model, field), getattr(shared, field), err_msg=field)


def test_friction_decides_whether_a_block_slides() -> None:
    """On a table tilted by gravity to a slope of 0.7: friction 1 holds, friction 0.5 does not."""
    scene, moved = TASKS["lift"].scene, []
    for scale in (1.0, 0.5):
        physics = Physics(scene, ARM7, own_model=True)
        physics.vary(Randomizer(Randomize(physics={"friction": (scale, scale)}), 20.0).draw(0, scene, ARM7))  # type: ignore[arg-type]
        physics.reset(TASKS["lift"].draw(0))
        before = physics.state()["body_pos"].copy()
        physics.model.opt.gravity[:] = (0.0, 9.81 * np.sin(np.arctan(0.7)), -9.81 * np.cos(np.arctan(0.7)))
        for _ in range(6):
            physics.step()
        moved.append(np.abs(physics.state()["body_pos"] - before)[:, 1].max())
    assert moved[0] < 0.005 < 0.05 < moved[1]


def test_off_is_bit_equal_to_no_randomisation(plain: WorkerVecEnv) -> None:
    actions = noise(0, 4, 16)
    with make(**WIDE, enabled=False) as off:
        assert_same(off.reset(range(4), range(4), NAMES), plain.reset(range(4), range(4), NAMES))
        assert_same_step(off.step_chunk(actions, range(4)), plain.step_chunk(actions, range(4)))


def test_images_vary_without_touching_the_physics_and_physics_without_the_first_image(plain: WorkerVecEnv) -> None:
    actions = noise(0, 4, 16)
    first, stepped = plain.reset(range(4), range(4), NAMES), plain.step_chunk(actions, range(4))
    with make(**{name: WIDE[name] for name in ("camera", "light", "colour", "image")}) as looks:
        seen, after = looks.reset(range(4), range(4), NAMES), looks.step_chunk(actions, range(4))
        np.testing.assert_array_equal(seen[STATE], first[STATE])
        np.testing.assert_array_equal(after.obs[STATE], stepped.obs[STATE])
        np.testing.assert_array_equal(after.reward, stepped.reward)
        difference = np.abs(seen[IMAGE].astype(int) - first[IMAGE]).mean((1, 2, 3))
        assert (difference > 3).all()
    with make(physics=WIDE["physics"]) as physics:
        assert_same(physics.reset(range(4), range(4), NAMES), first)
        assert (physics.step_chunk(actions, range(4)).obs[STATE] != stepped.obs[STATE]).any(1).all()


@pytest.mark.parametrize("group", ["camera", "light", "colour", "image"])
def test_each_group_changes_what_is_seen(plain: WorkerVecEnv, group: str) -> None:
    first = plain.reset(range(4), range(4), NAMES)[IMAGE].astype(int)
    with make(**{group: WIDE[group]}) as env:
        seen = env.reset(range(4), range(4), NAMES)[IMAGE]
        assert (np.abs(seen - first).mean((1, 2, 3)) > 1).all()
        np.testing.assert_array_equal(env.reset([3, 2, 1, 0], range(4), NAMES)[IMAGE], seen)


def test_seeds_decide_everything_and_neighbours_nothing(wide: WorkerVecEnv) -> None:
    actions = noise(1, 4, 24)
    first = wide.reset(range(4), [5, 6, 7, 8], NAMES)
    together = wide.step_chunk(actions, range(4))
    wide.reset(range(4), [1] * 4, NAMES[::-1])
    for row, env in enumerate((2, 0, 3, 1)):
        alone = wide.reset([env], [5 + row], [NAMES[row]])
        assert_same(alone, {name: value[row : row + 1] for name, value in first.items()})
        step = wide.step_chunk(actions[row : row + 1], [env])
        assert_same(step.obs, {name: value[row : row + 1] for name, value in together.obs.items()})
        np.testing.assert_array_equal(step.reward[0], together.reward[row])


def test_restore_carries_variation_commands_on_their_way_and_what_may_still_be_shown(wide: WorkerVecEnv) -> None:
    wide.reset(range(4), [1, 2, 3, 4], NAMES)
    wide.step_chunk(noise(2, 4, 9), range(4), render="none")
    before, obs = wide.snapshot(range(4)), wide.restore(range(4), wide.snapshot(range(4)))
    assert all(slot.variation.seed == seed and slot.line and len(slot.seen) > 1 for slot, seed in zip(before, (1, 2, 3, 4), strict=True))
    actions = noise(3, 4, 14)
    first = wide.step_chunk(actions, range(4))
    wide.reset(range(4), [9] * 4, NAMES)
    elsewhere = [3, 0, 1, 2]
    assert_same(wide.restore(elsewhere, before), obs)
    assert_same_step(wide.step_chunk(actions, elsewhere), first)


def test_looking_into_the_future_changes_nothing(wide: WorkerVecEnv) -> None:
    """The expert's chunk is rolled and restored, with late commands on their way."""
    wide.reset([0, 1], [3, 4], ["lift", "push"])
    first = wide.step_chunk(noise(4, 2, 6), [0, 1])
    before = wide.snapshot([0, 1])
    wide.expert_chunk([0, 1], 8)
    after = wide.snapshot([0, 1])
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a.physics, b.physics)
        assert [sent.arrival for sent in a.line] == [sent.arrival for sent in b.line] and a.shown == b.shown
    assert_same(wide.restore([0, 1], after), first.obs)


def test_late_commands_are_the_prompt_ones_later() -> None:
    """With a command 0.1 s late, the first joint turns as without delay two control steps earlier."""
    turn = np.zeros((1, 5, 8), np.float32)
    turn[0, 0, 0] = 1.0
    angles = []
    for delay_s in (0.0, 0.1):
        with make(1, control="joint_delta", timing={"action_delay_s": (delay_s, delay_s)}) as env:
            rest = env.reset([0], [0], ["lift"])[STATE][0, 0]
            angles.append([frame[STATE][0, 0] - rest for frame in env.step_chunk(turn, [0], "all").frames])
    prompt, late = angles
    assert abs(late[1]) < 2e-3 and prompt[1] > 0.02
    assert late[2:] == pytest.approx(prompt[:3], abs=2e-3)


def test_late_observations_are_the_earlier_ones(plain: WorkerVecEnv) -> None:
    """Images 0.15 s old show what was there three control steps ago, states 0.05 s old one step ago."""
    actions = noise(5, 2, 8)
    start = plain.reset([0, 1], [0, 1], ["lift", "drawer"])
    frames = plain.step_chunk(actions, [0, 1], "all").frames
    with make(timing={"image_delay_s": (0.15, 0.15), "state_delay_s": (0.05, 0.05)}) as env:
        assert_same(env.reset([0, 1], [0, 1], ["lift", "drawer"]), start)
        shown = env.step_chunk(actions, [0, 1], "all").frames
        once = env.reset([0, 1], [0, 1], ["lift", "drawer"])
        assert_same(once, start)
        last = env.step_chunk(actions, [0, 1], "last").obs
    for k in range(8):
        image = frames[k - 3] if k >= 3 else start
        state = frames[k - 1] if k >= 1 else start
        np.testing.assert_array_equal(shown[k][IMAGE], image[IMAGE], err_msg=f"image {k}")
        np.testing.assert_array_equal(shown[k][STATE], state[STATE], err_msg=f"state {k}")
    np.testing.assert_array_equal(last[IMAGE], frames[4][IMAGE])
    np.testing.assert_array_equal(last[STATE], frames[6][STATE])


def test_lost_observations_repeat_the_last_one(plain: WorkerVecEnv) -> None:
    actions = noise(6, 1, 40)
    start = plain.reset([0], [2], ["push"])
    truth = [start[STATE], *(frame[STATE] for frame in plain.step_chunk(actions, [0], "all").frames)]
    with make(timing={"state_dropout": (0.5, 0.5)}) as env:
        env.reset([0], [2], ["push"])
        shown = [frame[STATE] for frame in env.step_chunk(actions, [0], "all").frames]
    ages = [next(k for k in range(step + 2) if (truth[step + 1 - k] == state).all()) for step, state in enumerate(shown)]
    assert all(later <= earlier + 1 for earlier, later in itertools.pairwise(ages))
    assert 0.3 < np.mean([age > 0 for age in ages]) < 0.7


def test_a_measured_latency_reaches_the_environment(tmp_path: Path) -> None:
    path = histogram(tmp_path / "front.json", edges=[0.0, 0.08, 0.12], counts=[0, 5])
    with make(timing={"image_delay_file": path}) as env:
        env.reset([0], [0], ["lift"])
        env.step_chunk(noise(7, 1, 6), [0], "none")
        slot = env.snapshot([0])[0]
    assert slot.steps == 6 and slot.shown.image == 4 and slot.shown.state == 6, "0.08 to 0.12 s are two control steps"
    assert json.loads(path.read_text())["unit"] == "s"


def test_metaworld_randomises_nothing() -> None:
    with pytest.raises(SimulationError, match=r"backend 'metaworld' cannot randomise image.noise; it can: nothing"):
        sim.make("metaworld", ["door-open"], 1, randomize=Randomize(image={"noise": (0.0, 1.0)}))  # type: ignore[arg-type]


def test_control_steps_split_exactly() -> None:
    task, states = TASKS["push"], []
    for parts in ((CONTROL_STEPS,), (3, CONTROL_STEPS - 3)):
        physics = Physics(task.scene, ARM7)
        physics.reset(task.draw(1))
        physics.command(np.array(ARM7.home) + 0.1, 0.5)
        for steps in parts * 5:
            physics.step(steps)
        states.append(physics.save())
    assert mujoco.mj_stateSize(Physics(task.scene, ARM7).model, mujoco.mjtState.mjSTATE_INTEGRATION) == len(states[0])
    np.testing.assert_array_equal(*states)
