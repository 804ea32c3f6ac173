"""The G1 that stands by itself: balance, its task, its environment, and the profile that describes it."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import sim
from robot.kinematics import CapsuleModel, Chain
from robot.profile import load_profile
from sim.humanoid import hands, stance
from sim.humanoid.body import ARMS_HOME, Body
from sim.humanoid.g1 import ARM_JOINTS, BODY_JOINTS, CONTROL_STEPS
from sim.humanoid.pushes import FORCE_N, LASTS_S, PERIOD_S, push
from sim.vec_env import PICTURE, SimulationError
from sim.workers.vec_env import WorkerVecEnv
from tests.sim.contract import check_expert_chunk, check_neighbours, check_observations, check_restore, check_starts

PROFILE = Path(__file__).parents[2] / "configs" / "robots" / "g1_arms.yaml"
STEPS = 600
"""Twelve seconds."""


def env(num_envs: int = 2, tasks: tuple[str, ...] = ("hands",), **settings: object) -> WorkerVecEnv:
    return sim.make("mujoco", list(tasks), num_envs, 1, robot=sim.HUMANOID, control="joint_delta", **settings)  # pyright: ignore[reportArgumentType]


def test_legs_and_waist_answer_a_tilt():
    def answer(down: tuple[float, float, float], rate: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> dict[str, float]:
        found = stance.targets(np.array(down), np.array(rate)) - stance.STANDING
        return {joint: float(value) for joint, value in zip(BODY_JOINTS, found, strict=True) if value}

    forward = answer((np.sin(0.1), 0.0, -np.cos(0.1)), (0.0, 0.5, 0.0))
    assert set(forward) == {"waist_pitch_joint", *(f"{side}_{part}_pitch_joint" for side in ("left", "right") for part in ("hip", "ankle"))}
    assert forward["left_ankle_pitch_joint"] == pytest.approx(1.5 * 0.1 + 0.14 * 0.5)
    right = answer((0.0, -np.sin(0.1), -np.cos(0.1)))
    assert right["left_hip_roll_joint"] == right["right_hip_roll_joint"] == pytest.approx(0.31 * 0.1)
    assert answer((0.0, 0.0, -1.0)) == {}


def test_pushes_come_once_in_every_period_and_follow_from_the_seed():
    times = np.arange(0, 6 * PERIOD_S, 0.005)
    forces = np.array([push(7, time_s) for time_s in times])
    strength = np.linalg.norm(forces, axis=1)
    assert np.isclose((strength > 0).sum() * 0.005, 6 * LASTS_S, atol=6 * 0.005)
    assert FORCE_N[0] <= strength[strength > 0].min() <= strength.max() <= FORCE_N[1]
    assert np.array_equal(forces, [push(7, time_s) for time_s in times])
    assert not np.array_equal(forces, [push(8, time_s) for time_s in times])


def test_it_stands_while_it_swings_its_arms_under_pushes_and_falls_without_an_answer_to_tilt(monkeypatch: pytest.MonkeyPatch):
    def stands(seed: int) -> bool:
        body, start = Body(), hands.Start.of(seed)
        body.reset(seed, start.offset)
        command = body.arms.astype(np.float32)
        for step in range(STEPS):
            goal = hands.Start.of(seed + step // 100).goal  # other spots every two seconds
            command = hands.follow(command, hands.expert(body, goal, command), body.limits)
            body.command(command)
            body.step()
        return body.standing

    assert all(stands(seed) for seed in range(4))
    monkeypatch.setattr("sim.humanoid.stance.targets", lambda down, rate: stance.STANDING)
    assert not any(stands(seed) for seed in range(4))


def test_the_expert_solves_the_task_without_touching_itself():
    profile = load_profile(PROFILE)
    chain = Chain(profile.chain, profile.names)
    assert profile.collision is not None
    capsules = CapsuleModel(chain, profile.collision.capsules, profile.collision.pairs)
    body, gaps, solved = Body(), [], 0
    for seed in range(2_000_000, 2_000_020):
        start = hands.Start.of(seed)
        body.reset(seed, start.offset)
        command = body.arms.astype(np.float32)
        for _ in range(200):
            command = hands.follow(command, hands.expert(body, start.goal, command), body.limits)
            body.command(command)
            body.step()
            gaps.append(capsules.distances(chain.poses(body.arms[None])).min())
            if hands.success(body, start.goal):
                solved += 1
                break
    assert solved == 20
    assert min(gaps) > profile.collision.clearance_m


def test_the_profile_is_of_the_model():
    profile, body = load_profile(PROFILE), Body()
    assert profile.names == ARM_JOINTS
    assert np.allclose([joint.position for joint in profile.joints], body.limits, atol=1e-4)
    assert np.allclose(profile.home, ARMS_HOME)
    body.reset(0, np.random.default_rng(0).uniform(-0.3, 0.3, 14))
    pose = Chain(profile.chain, profile.names).poses(body.arms[None])[0]
    links = Chain(profile.chain, profile.names)
    found = [pose[links.index(f"{side}_hand"), :3, 3] for side in ("left", "right")]
    assert np.allclose(found, body.hands, atol=2e-3)  # the waist stands at 0


def test_instructions_name_both_spots_and_mirror_the_right_one():
    start = hands.Start(np.zeros(14), ("in front", "low to the side"))
    assert start.instruction(0, hands.INSTRUCTIONS[:1]) == "left hand in front, right hand low to the side"
    left, right = start.goal
    assert left.tolist() == list(hands.SPOTS["in front"])
    assert right.tolist() == [hands.SPOTS["low to the side"][0], -hands.SPOTS["low to the side"][1], hands.SPOTS["low to the side"][2]]


def test_environments_follow_the_contract():
    with env() as envs:
        obs = check_observations(envs, [0, 1], [5, 6], ["hands"] * 2)
        assert set(obs) == {"observation.state", "task"} and obs["observation.state"].shape == (2, 28)
        check_starts(envs, [0, 1], [1, 0], ["hands"] * 2)
        check_restore(envs, [0, 1], [1, 0], ["hands"] * 2)
        check_neighbours(envs, [0, 1], ["hands"] * 2)
        check_expert_chunk(envs, [0, 1], ["hands"] * 2)
        assert envs.privileged([0, 1]).shape == (2, 57)
        step = envs.step_chunk(envs.expert_chunk([0, 1], 8), [0, 1], render="all")
        assert len(step.frames) == 8 and set(step.frames[0]) == {"observation.state", PICTURE}
        first, last = step.frames[0][PICTURE][0], step.frames[-1][PICTURE][0]
        assert first.dtype == np.uint8 and not np.array_equal(first, last), "the arms moved"
        assert np.abs(step.obs["observation.state"][:, 14:]).max() > 0.01, "joints lag behind their targets"


def test_a_divergence_stays_in_its_own_environment():
    with env() as envs:
        envs.reset([0, 1], [5, 6], ["hands"] * 2)
        [slot] = envs.snapshot([0])
        envs.restore([0], [replace(slot, physics=np.where(np.arange(len(slot.physics)) == 45, 1e12, slot.physics))])
        assert np.isfinite(envs.expert_chunk([0], 4)).all()
        healthy = envs.step_chunk(np.zeros((1, 4, 14)), [1])
        assert not healthy.diverged.any() and healthy.executed[0] == 4
        broken = envs.step_chunk(np.zeros((1, 4, 14)), [0])
        assert broken.diverged.all() and broken.truncated.all()
        assert np.isfinite(broken.obs["observation.state"]).all()


def test_the_robot_on_the_graph_moves_as_the_environment():
    from sim.ros2.humanoid import Humanoid
    from sim.ros2.vendor import Imperfections

    with env(1) as envs:
        said = str(envs.reset([0], [5], ["hands"])["task"][0])
        plant = Humanoid(Imperfections())
        plant.reset("hands", 5)
        assert plant.episode.instruction == said
        done, steps = False, 0
        while not done:
            step = envs.step_chunk(envs.expert_chunk([0], 1), [0])
            command = envs.snapshot([0])[0].command
            for _ in range(CONTROL_STEPS):
                plant.step(command.astype(float))
            done, steps = bool(step.done[0]), steps + 1
            np.testing.assert_array_equal(plant.read().position.astype(np.float32), step.obs["observation.state"][0, :14])
        assert step.terminated.all() and plant.episode.success_now and plant.episode.steps == steps


def test_demonstrations_rest_at_the_goal():
    with env() as envs:
        envs.reset([0, 1], [1, 2], ["hands"] * 2)
        for demonstration in envs.demonstrate([0, 1], [0.0, 0.3]):
            assert demonstration.succeeded
            assert demonstration.success[-10:].all()
            assert len(demonstration.action) == len(demonstration.success) < 200
        with pytest.raises(SimulationError, match="has ended"):
            envs.step_chunk(np.zeros((1, 1, 14)), [0])


def test_a_fall_ends_the_episode_without_success():
    with env(1) as envs:
        envs.reset([0], [0], ["hands"])
        both_up = np.zeros((1, 200, 14), np.float32)
        both_up[:, :, [0, 7]] = -1.0  # shoulders swing forward and up as fast as they can, and on
        both_up[:, 60:, [0, 7]] = np.sign(np.sin(np.arange(140) / 3))[None, :, None]
        step = envs.step_chunk(both_up, [0])
        assert step.truncated.all() and step.executed[0] < 200, "before its time was up"
        assert not step.success.any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backend": "isaaclab", "control": "ee_delta"}, "needs sim.control joint_delta, got ee_delta"),
        ({"control": "ee_delta"}, "joint_delta"),
        ({"camera": "front"}, "no camera"),
        ({"device": "cuda:0"}, "the mujoco backend simulates on the CPU; got device 'cuda:0'"),
        ({"robot": "g1_arm"}, "unknown robot 'g1_arm'; did you mean g1_arms"),
        ({"tasks": ["lift"]}, "unknown task of the humanoid 'lift'"),
        ({"randomize": {"physics": {"mass": (0.5, 2.0)}}}, "physics.mass"),
    ],
)
def test_what_the_humanoid_cannot_do_is_refused(settings: dict, message: str):
    from sim.randomize import Randomize

    given = {"backend": "mujoco", "tasks": ["hands"], "num_envs": 1, "robot": sim.HUMANOID, "control": "joint_delta"} | settings
    if "randomize" in given:
        given["randomize"] = Randomize(**given["randomize"])
    with pytest.raises(SimulationError, match=message):
        sim.make(**given)


def test_an_episode_is_filmed_though_the_policy_sees_nothing(tmp_path: Path):
    from policies.config import PolicyConfig
    from policies.interface import PolicySpec
    from policies.vla import VlaPolicy
    from vla_rl.video import Episode, save_media

    with env() as envs:
        spec = PolicySpec(**vars(envs.spec), chunk=16, executed=16)
        save_media(VlaPolicy(PolicyConfig(), spec), envs, [Episode("hands", seed) for seed in (1, 2)], 1, tmp_path)
    assert (tmp_path / "contact_sheet.png").is_file() and (tmp_path / "videos" / "hands-1.mp4").stat().st_size > 1000


def test_a_bank_of_its_states_is_refused(tmp_path: Path):
    from vla_rl.config import SimConfig
    from vla_rl.data.bank import BankConfig, collect_bank

    config = SimConfig(backend="mujoco", robot=sim.HUMANOID, control="joint_delta", tasks=("hands",), num_envs=1, workers=1)
    with env(1) as envs, pytest.raises(SimulationError, match="has no banks of states"):
        collect_bank(BankConfig(sim=config, out=tmp_path / "bank"), envs)


def test_a_package_that_cannot_be_installed_is_said_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from sim.cache import isolated

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def broken(home: Path, with_pip: bool) -> None:
        home.mkdir(parents=True)
        raise subprocess.CalledProcessError(1, "ensurepip", stderr="no ensurepip here")

    monkeypatch.setattr("sim.cache.venv.create", broken)
    with pytest.raises(SimulationError, match=r"cannot install thing==1\.0, which does things: no ensurepip here"):
        isolated("thing==1.0", "does things")
    assert not (tmp_path / "vla-rl" / "thing-1.0").exists()
