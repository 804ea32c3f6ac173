"""A small data set written once per session: three episodes of two tasks, with values that tell frames apart."""

import shutil

import numpy as np
import pytest

from policies.interface import ActionSpec, Entry, PolicySpec
from sim.vec_env import Demonstration, EnvSpec
from vla_rl.data.writer import write_episodes

CAMERA = "observation.images.corner2"
LENGTHS = (5, 3, 4)
TASKS = ("open", "close", "open")
INSTRUCTIONS = ("open the drawer", "close the drawer", "pull the drawer open")

ENV_SPEC = EnvSpec(
    embodiment="test-arm",
    entries=(
        Entry(name=CAMERA, kind="image", shape=(16, 24, 3), frame="corner2"),
        Entry(name="observation.state", kind="state", shape=(3,), names=("x [m]", "y [m]", "grip"), low=(-1.0,) * 3, high=(1.0,) * 3),
        Entry(name="task", kind="text"),
    ),
    action=ActionSpec(names=("dx", "dy"), representation="end_effector_delta", low=(-1.0,) * 2, high=(1.0,) * 2),
    control_hz=80.0,
)


def policy_spec(chunk=4):
    return PolicySpec(embodiment="test-arm", entries=ENV_SPEC.entries, action=ENV_SPEC.action, control_hz=80.0, chunk=chunk, executed=chunk)


def episode(index, length=None, task=None, seed=None, succeeded=True):
    """Random pixels; action (episode, step)/100, state (0.1 episode, 0.01 step, 0)."""
    length = LENGTHS[index] if length is None else length
    step = np.arange(length, dtype=np.float32)
    whole = np.full(length, index, np.float32)
    action = np.stack([whole, step], 1) / np.float32(100)
    pixels = np.random.default_rng(index).integers(0, 256, (length, 16, 24, 3), dtype=np.uint8)
    return Demonstration(
        task=task or TASKS[index],
        seed=10 + index if seed is None else seed,
        instruction=INSTRUCTIONS[index % 3],
        obs={CAMERA: pixels, "observation.state": np.stack([whole * 0.1, step * 0.01, step * 0], 1).astype(np.float32)},
        action=action,
        executed=action + np.float32(index == 1),
        success=np.arange(length) == (length - 1 if succeeded else length),
    )


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """Path of the small data set; not to be changed."""
    out = tmp_path_factory.mktemp("data") / "demos"
    return write_episodes(out, ENV_SPEC, (episode(i) for i in range(3)), {"made_by": "test"}, max_frames=12)


@pytest.fixture
def copy(written, tmp_path):
    """A copy of the small data set, to be damaged."""
    return shutil.copytree(written, tmp_path / "copy")
