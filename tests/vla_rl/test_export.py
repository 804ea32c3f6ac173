"""What a bundle says about the simulator is what the simulator does: targets, limits, cameras; and the command line."""

from __future__ import annotations

from pathlib import Path

import mujoco
import numpy as np
import pytest
import torch

from policies.action_map import map_actions
from policies.bundle_folder import read_bundle
from policies.config import FlowHeadConfig, PolicyConfig
from policies.deployed import open_bundle
from policies.interface import ActionSpec
from sim.camera import Camera
from sim.control import Command, action_spec, follow
from sim.randomize import Randomize, TimingTerms
from sim.robots import ARM7
from sim.state import SceneState
from sim.tabletop import CAMERAS
from tests.random_run import random_run
from tests.vla_rl.test_cli import refused
from vla_rl.cli import main
from vla_rl.config import SimConfig
from vla_rl.deployment import _pinhole, _pose, action_map, joint_limits, seen_delays

JOINTS = SimConfig(backend="mujoco", tasks=("lift", "push"), num_envs=2, workers=1, image_px=32, control="joint_delta")


def test_joint_targets_are_the_simulators_bit_by_bit() -> None:
    spec, terms = action_spec(ARM7, "joint_delta"), action_map(action_spec(ARM7, "joint_delta"), JOINTS)
    limits = np.array([(limit.low, limit.high) for limit in joint_limits(JOINTS)], np.float32)
    rng = np.random.default_rng(0)
    B, K = 200, 40
    chunk = rng.uniform(-1.3, 1.3, (B, K, 8)).astype(np.float32)
    last = np.concatenate([rng.uniform(limits[:, 0], limits[:, 1], (B, 7)), rng.uniform(0, 1, (B, 1))], 1).astype(np.float32)
    command = Command(torch.as_tensor(last[:, :7]), torch.as_tensor(last[:, 7]), torch.zeros(B, 3), torch.zeros(B))
    mapped = np.stack([map_actions(terms, spec, *row) for row in zip(chunk, last, strict=True)])
    state = _still(B)
    for k in range(K):
        action = torch.as_tensor(np.clip(chunk[:, k], -1, 1))  # as `WorkerVecEnv` clips
        command = follow("joint_delta", ARM7, command, action, state, torch.as_tensor(limits))
        assert np.array_equal(mapped[:, k, :7], command.joints.numpy())
        assert np.array_equal(mapped[:, k, 7], command.opening.numpy())


def test_the_map_by_hand() -> None:
    spec = ActionSpec(names=("a", "b"), representation="delta", low=(-1.0, -1.0), high=(1.0, 1.0))
    terms = [
        term.model_copy(update={"name": name})
        for term, name in zip(action_map(action_spec(ARM7, "joint_delta"), JOINTS)[-2:], spec.names, strict=True)
    ]
    chunk = np.array([[0.5, -1.0], [2.0, 0.0], [-0.25, 1.0]], np.float32)
    # joint 7 moves by 0.05 × action clipped to ±1 from 1.0 rad; the gripper opens from 0 to 1 as the action goes from −1 to 1.
    assert map_actions(terms, spec, chunk, np.array([1.0, 0.3], np.float32)) == pytest.approx(
        np.array([[1.025, 0], [1.075, 0.5], [1.0625, 1]])
    )
    assert map_actions(terms, spec, chunk, np.array([2.88, 0.3], np.float32))[0, 0] == np.float32(2.8973)


@pytest.mark.parametrize("camera", CAMERAS.values(), ids=CAMERAS)
def test_camera_parameters_are_those_of_the_camera(camera: Camera) -> None:
    pinhole, pose = _pinhole(camera, 64), _pose(camera)
    assert pinhole.matrix == pytest.approx(np.array([[camera.focal_px(64), 0, 31.5], [0, camera.focal_px(64), 31.5], [0, 0, 1]]))
    rotation = np.zeros(9)
    mujoco.mju_quat2Mat(rotation, np.array(pose.quat_wxyz))
    assert rotation.reshape(3, 3) == pytest.approx(camera.rotation, abs=1e-9)
    assert pose.position_m == pytest.approx(camera.position_m)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of a random policy."""
    folder = tmp_path_factory.mktemp("run")
    random_run(folder, JOINTS, PolicyConfig(chunk=4, executed=2, head=FlowHeadConfig()))
    return folder


def test_a_bundle_states_the_delays_of_training(tmp_path: Path) -> None:
    measured = tmp_path / "image.json"
    measured.write_text('{"unit": "s", "edges": [0.0, 0.02, 0.05, 0.1], "counts": [0, 7, 0], "stream": "/front/image"}')
    timing = TimingTerms(action_delay_s=(0.01, 0.03), image_delay_file=measured, state_delay_s=(0.0, 0.06))
    randomize = Randomize(timing=timing)
    assert seen_delays(SimConfig(backend="mujoco")) == (0.0, 0.0)
    assert seen_delays(SimConfig(backend="mujoco", randomize=randomize)) == pytest.approx((0.01, 0.09))
    off = randomize.model_copy(update={"enabled": False})
    assert seen_delays(SimConfig(backend="mujoco", randomize=off)) == (0.0, 0.0)


def test_export_of_a_run(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(run), "--out", str(tmp_path / "bundle")]) == 0
    assert "digest" in capsys.readouterr().out
    bundle = read_bundle(tmp_path / "bundle")
    assert [limit.joint for limit in bundle.limits] == list(ARM7.joints)
    assert [(term.target, term.scale) for term in bundle.action_map[:2]] == [("joint1", 0.05), ("joint2", 0.05)]
    assert bundle.observations[0].camera is not None
    policy = open_bundle(tmp_path / "bundle")
    sample = policy.bundle.spec
    assert (sample.chunk, sample.executed, sample.control_hz) == (4, 2, 20.0)
    assert "exists already" in refused(["export", str(run), "--out", str(tmp_path / "bundle")], capsys)


def test_export_needs_to_know_where_from_and_where_to(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(tmp_path / "bundle")]
    assert "--out says where the bundle goes" in refused(["export", str(run)], capsys)
    assert "is no run folder: name the preset" in refused(["export", str(run / "policy"), *out], capsys)
    assert "nowhere is not a policy folder" in refused(
        ["export", "nowhere", *out, "--sim.backend", "mujoco", "--sim.tasks", "lift"], capsys
    )
    other = ["--sim.control", "ee_delta"]
    assert "policy and environment disagree on action" in refused(["export", str(run), *out, *other], capsys)
    assert list(tmp_path.iterdir()) == []


def _still(batch: int) -> SceneState:
    """A state that joint steps do not depend on."""
    zero, J = torch.zeros(batch), len(ARM7.joints)
    quat = torch.tensor([[0.0, 1.0, 0.0, 0.0]]).expand(batch, 4)
    return SceneState(
        joint_pos=torch.zeros(batch, J),
        joint_vel=torch.zeros(batch, J),
        opening=zero,
        tcp_pos=torch.zeros(batch, 3),
        tcp_quat=quat,
        jacobian=torch.zeros(batch, 6, J),
        body_pos=torch.zeros(batch, 0, 3),
        body_quat=torch.zeros(batch, 0, 4),
        body_vel=torch.zeros(batch, 0, 3),
        fixture_pos=torch.zeros(batch, 0, 3),
        fixture=torch.zeros(batch, 0),
    )
