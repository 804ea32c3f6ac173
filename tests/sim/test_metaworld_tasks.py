"""The tables of tasks and instructions; all 50 tasks for real in the slow test."""

import numpy as np
import pytest
from metaworld.env_dict import ALL_V3_ENVIRONMENTS

import sim
from sim.metaworld.instructions import INSTRUCTIONS, draw
from sim.metaworld.tasks import TASKS, VISIBLE_SITES


def test_every_task_of_the_library_is_offered():
    assert sorted(f"{task}-v3" for task in TASKS) == sorted(ALL_V3_ENVIRONMENTS) and len(TASKS) == 50
    assert set(VISIBLE_SITES) <= set(TASKS)


def test_no_phrasing_is_shared():
    """Neither between tasks nor between training and held-out phrasings, so that the instruction decides."""
    said = [phrase for phrasings in INSTRUCTIONS.values() for phrase in phrasings.train + phrasings.held_out]
    assert len(said) == len(set(said))
    assert all(phrase == phrase.strip() and phrase and len(phrase) < 80 for phrase in said)
    assert all(len(phrasings.train) >= 3 and len(phrasings.held_out) >= 2 for phrasings in INSTRUCTIONS.values())


def test_phrasing_is_drawn_from_the_seed():
    drawn = [draw("push", seed, "train") for seed in range(60)]
    assert drawn == [draw("push", seed, "train") for seed in range(60)]
    assert set(drawn) == set(INSTRUCTIONS["push"].train)
    assert {draw("push", seed, "held_out") for seed in range(60)} == set(INSTRUCTIONS["push"].held_out)


@pytest.fixture(scope="module")
def env():
    with sim.make("metaworld", TASKS, 8, workers=2, image_px=32, horizon=250) as env:
        yield env


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_task(env, task):
    """Starts repeat bit for bit and vary with the seed, snapshots repeat, and the expert mostly succeeds."""
    ids = list(range(8))
    first = env.reset(ids, ids, [task] * 8)
    start = env.privileged(ids)
    assert len(np.unique(start[:, 4:].round(4), axis=0)) == 8
    demos = env.demonstrate(ids, 0.0, render=False)
    env.reset(ids[::-1], ids, [task] * 8)
    np.testing.assert_array_equal(env.privileged(ids[::-1]), start)
    snapshots = env.snapshot(ids[::-1])
    again = env.demonstrate(ids[::-1], 0.0, render=False)
    restored = env.restore(ids, snapshots)
    np.testing.assert_array_equal(restored["observation.state"], first["observation.state"])
    third = env.demonstrate(ids, 0.0, render=False)
    for a, b, c in zip(demos, again, third, strict=True):
        np.testing.assert_array_equal(a.executed, b.executed)
        np.testing.assert_array_equal(a.executed, c.executed)
    rate = np.mean([demo.succeeded for demo in demos])
    assert rate >= (0.1 if task == "push-back" else 0.6)
