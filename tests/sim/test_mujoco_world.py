"""What MuJoCo's physics says of environments that it cannot go on with."""

from __future__ import annotations

import numpy as np
import pytest

from sim.control import hold
from sim.mujoco.physics import DIVERGED
from sim.mujoco.world import MujocoWorld
from sim.settings import Settings
from sim.tasks import TASKS


@pytest.mark.parametrize(("name", "place", "value"), [("qpos", 0, np.nan), ("qpos", -7, 1e11), ("qvel", 0, np.nan), ("qvel", 0, 1e11)])
def test_physics_that_diverges_is_told_of_its_environment_alone(name: str, place: int, value: float) -> None:
    task, world = TASKS["lift"], MujocoWorld(Settings("arm7", "ee_delta", 64, "front", None, "train"))
    world.start([0, 1], task.scene, [task.draw(0), task.draw(1)])
    command = hold(world.state([0, 1]))
    assert world.step([0, 1], command) == ["", ""]
    getattr(world._of(0).data, name)[place] = value
    assert world.step([0, 1], command) == [DIVERGED, ""]
    world.start([0], task.scene, [task.draw(0)])
    assert world.step([0, 1], hold(world.state([0, 1]))) == ["", ""]


def test_a_coordinate_that_is_not_finite_after_the_last_physics_step_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    task, world = TASKS["lift"], MujocoWorld(Settings("arm7", "ee_delta", 64, "front", None, "train"))
    world.start([0, 1], task.scene, [task.draw(0), task.draw(1)])
    command, turned = hold(world.state([0, 1])), world._of(1)
    advance = turned.advance

    def spoil(steps: int) -> None:
        advance(steps)
        turned.data.xquat[-1] = np.nan

    monkeypatch.setattr(turned, "advance", spoil)
    assert world.step([0, 1], command) == ["", DIVERGED]
