"""Arms whose meshes come from packages, converted to USD on first use and put into Isaac Lab, against the same arms in MuJoCo."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest

import sim

pytestmark = [
    pytest.mark.skipif(find_spec("isaaclab") is None, reason="needs the extra 'isaac'"),
    pytest.mark.skipif(find_spec("rtbdata") is None, reason="needs the extra 'robots'"),
    pytest.mark.slow,  # meshes need kernels that no other test compiles
    pytest.mark.timeout(1800),
]

IMAGE, STATE = "observation.images.front", "observation.state"


@pytest.mark.parametrize("robot", ["panda", "ur5e"])
def test_a_real_arm_starts_looks_and_moves_as_in_mujoco_and_lifts_a_block(robot: str) -> None:
    ids, tasks, seeds = [0, 1], ["lift", "lift"], [11, 12]
    with (
        sim.make("isaaclab", ["lift"], num_envs=2, workers=1, image_px=64, robot=robot, control="joint_delta") as ours,
        sim.make("mujoco", ["lift"], num_envs=2, workers=1, image_px=64, robot=robot, control="joint_delta") as other,
    ):
        assert ours.spec == other.spec
        obs, same = ours.reset(ids, seeds, tasks), other.reset(ids, seeds, tasks)
        np.testing.assert_allclose(obs[STATE], same[STATE], atol=1e-6)
        np.testing.assert_allclose(ours.privileged(ids), other.privileged(ids), atol=2e-6)
        difference = np.abs(obs[IMAGE].astype(int) - same[IMAGE])
        assert difference.mean() < 3, "the same scene looks different in the two simulators"
        actions = np.random.default_rng(0).uniform(-1, 1, (2, 8, ours.spec.action.dim)).astype(np.float32)
        steps = ours.step_chunk(actions, ids), other.step_chunk(actions, ids)
        np.testing.assert_allclose(steps[0].obs[STATE], steps[1].obs[STATE], atol=1e-3)
        ours.reset(ids, seeds, tasks)
        assert all(demonstration.success[-1] for demonstration in ours.demonstrate(ids, 0.0, render=False))
