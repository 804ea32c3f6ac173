"""The simulated robot without ROS: same physics as the environments, firmware, imperfections, faults, time code."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

import sim
from sim.robots import ARM7
from sim.ros2 import overlay
from sim.ros2.arm import Arm
from sim.ros2.faults import STAMP_NS, JointMessage, disturb_image, disturb_stamp, disturb_state
from sim.ros2.plant import SERVO_NS
from sim.ros2.vendor import Firmware, Imperfections
from sim.scene import CONTROL_STEPS

MS = 1_000_000


def arm_at(task: str = "lift", seed: int = 3, **imperfections: float) -> Arm:
    arm = Arm(ARM7, Imperfections(**imperfections), image_px=32)
    arm.reset(task, seed)
    return arm


def expert_targets(task: str, seed: int) -> tuple[list[np.ndarray], list[np.ndarray], str]:
    """Servo targets and resulting states of the scripted expert in the environment, up to success; and the instruction."""
    targets, states = [], []
    with sim.make("mujoco", [task], 1, 1, image_px=32, control="joint_delta") as env:
        said = str(env.reset([0], [seed], [task])["task"][0])
        done = False
        while not done:
            step = env.step_chunk(env.expert_chunk([0], 1), [0], render="none")
            done = bool(step.done[0])
            command = env.snapshot([0])[0].command
            targets.append(command[:8].astype(float))
            states.append(step.obs["observation.state"][0])
    assert step.terminated.all()
    return targets, states, said


def test_same_states_and_success_as_the_environment():
    targets, states, said = expert_targets("lift", 3)
    arm = arm_at("lift", 3)
    assert arm.episode.instruction == said
    for step, (target, state) in enumerate(zip(targets, states, strict=True), start=1):
        assert not arm.episode.success
        for _ in range(CONTROL_STEPS):
            arm.step(target)
        measured = arm.read().position.astype(np.float32)
        errors = target[:7].astype(np.float32) - measured[:7]
        np.testing.assert_array_equal(np.concatenate([measured, errors]), state)
        assert arm.episode.steps == step
    assert arm.episode.success and arm.episode.success_now


def test_success_after_the_horizon_does_not_count():
    targets, _, _ = expert_targets("reach", 0)
    arm = arm_at("reach", 0)
    home = arm.home
    for target in [home] * arm.episode.horizon + targets:
        for _ in range(CONTROL_STEPS):
            arm.step(target)
    assert arm.episode.success_now and not arm.episode.success


def test_firmware_aborts_on_a_jump_and_stays_aborted():
    firmware = Firmware(Imperfections(abort_jump_rad=0.2, watchdog_s=None), np.zeros(3))
    assert firmware.judge(np.array([0.2, 0.0, 1.0]), 0).tolist() == [0.2, 0.0, 1.0]
    assert firmware.judge(np.array([0.2, -0.3, 0.0]), SERVO_NS).tolist() == [0.2, 0.0, 1.0]
    assert "joint 1 was told to jump by 0.300 rad, 0.2 are allowed" in firmware.aborted
    assert firmware.judge(np.array([0.2, 0.0, 0.0]), 2 * SERVO_NS).tolist() == [0.2, 0.0, 1.0]
    firmware.restart(np.array([0.1, 0.0, 1.0]))
    assert not firmware.stopped
    assert firmware.judge(np.array([0.15, 0.0, 1.0]), 3 * SERVO_NS).tolist() == [0.15, 0.0, 1.0]


def test_command_delay_is_exact():
    """12 ms of delay: a target of step k moves the motors at step k + 3, the first step at or after its time."""
    firmware = Firmware(Imperfections(command_delay_s=0.012, watchdog_s=None, abort_jump_rad=None), np.zeros(2))
    motors = [float(firmware.judge(np.array([float(step), 0.0]), step * SERVO_NS)[0]) for step in range(7)]
    assert motors == [0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 3.0]


def test_watchdog_stops_where_the_robot_is_told_to_be():
    firmware = Firmware(Imperfections(watchdog_s=0.1), np.zeros(2))
    assert firmware.judge(np.array([0.1, 0.0]), 500 * MS)[0] == 0.1 and not firmware.watchdog  # nobody has commanded yet
    firmware.heard(1000 * MS)
    assert firmware.judge(np.array([0.15, 0.0]), 1100 * MS)[0] == 0.15
    assert firmware.judge(np.array([0.2, 0.0]), 1105 * MS)[0] == 0.15
    assert firmware.watchdog and firmware.stopped


def behind(**worn: float) -> float:
    """How far joint 1 is from its target after 1 s of being told 0.1 rad further [rad]."""
    arm = arm_at(**worn)
    target = arm.home + np.array([0.1] + [0.0] * 7)
    for _ in range(200):
        arm.step(target)
        assert np.abs(arm.read().effort[:4]).max() <= 87.0 * worn.get("effort_scale", 1.0)
    return float(target[0] - arm.read().position[0])


def test_friction_and_weak_motors_keep_the_arm_behind():
    """Dry friction holds a servo back by at most friction over stiffness, 400 N·m/rad."""
    ideal, stuck, weak = behind(), behind(dry_friction_nm=8.0), behind(effort_scale=0.02)
    assert abs(ideal) < 1e-3
    assert 3 * abs(ideal) < stuck <= 8.0 / 400
    assert weak > 3 * abs(ideal)


def test_encoder_steps():
    position = arm_at(encoder_step_rad=0.01).read().position[:7]
    np.testing.assert_allclose(position, np.round(position / 0.01) * 0.01, atol=1e-12)
    exact = arm_at().read().position[:7]
    assert 0 < np.abs(position - exact).max() <= 0.005


def joints(*values: float) -> JointMessage:
    numbers = np.array(values)
    return JointMessage(tuple("abc"[: len(values)]), numbers, 10 * numbers, 100 * numbers)


@pytest.mark.parametrize(
    ("fault", "position", "velocity"),
    [
        ("none", [0.1, 0.2, 0.3], [1, 2, 3]),
        ("partial", [0.1], [1]),
        ("reordered", [0.3, 0.2, 0.1], [3, 2, 1]),
        ("no_velocity", [0.1, 0.2, 0.3], []),
        ("nan", [np.nan, 0.2, 0.3], [1, 2, 3]),
        ("degrees", [5.729578, 11.459156, 17.188734], [57.29578, 114.59156, 171.88734]),
        ("freeze", [7.0, 8.0, 9.0], [70, 80, 90]),
    ],
)
def test_state_faults(fault: str, position: list[float], velocity: list[float]):
    message = disturb_state(fault, joints(0.1, 0.2, 0.3), joints(7.0, 8.0, 9.0), count=1)
    np.testing.assert_allclose(message.position, position, rtol=1e-6)
    np.testing.assert_allclose(message.velocity, velocity, rtol=1e-6)
    assert message.names == {"partial": ("a",), "reordered": ("c", "b", "a")}.get(fault, ("a", "b", "c"))


def test_state_stop_and_spike():
    assert disturb_state("stop", joints(0.1), None, 0) is None
    assert [float(disturb_state("spike", joints(0.1), None, count).position[0]) for count in (9, 10, 11)] == [0.1, 1.6, 0.1]


@pytest.mark.parametrize(
    ("fault", "stamp_ns"), [("none", 5 * STAMP_NS), ("stamp_zero", 0), ("stamp_future", 6 * STAMP_NS), ("stamp_back", 4 * STAMP_NS)]
)
def test_stamp_faults(fault: str, stamp_ns: int):
    assert disturb_stamp(fault, 5 * STAMP_NS) == stamp_ns


def test_camera_faults():
    image, last = np.full((4, 4, 3), 9, np.uint8), np.zeros((4, 4, 3), np.uint8)
    assert disturb_image("none", image, last, 0) is image
    assert disturb_image("freeze", image, last, 0) is last and disturb_image("freeze", image, None, 0) is image
    assert disturb_image("stop", image, last, 0) is None
    assert not disturb_image("black", image, last, 0).any()
    assert [disturb_image("half_rate", image, last, count) is None for count in range(4)] == [False, True, False, True]
    assert disturb_image("size_change", image, last, 0).shape == (2, 2, 3)


@pytest.mark.parametrize("px", [32, 64, 224])
def test_time_code_survives_compression(px: int):
    noise = np.random.default_rng(0).integers(0, 256, (px, px, 3)).astype(np.uint8)
    marked = overlay.draw(noise, frame=54_321, time_ms=65_536 + 1_234)
    assert overlay.read(marked) == (54_321, 1_234)
    assert (marked[px // 2] == noise[px // 2]).all()
    _, jpeg = cv2.imencode(".jpg", marked, [cv2.IMWRITE_JPEG_QUALITY, 80])
    assert overlay.read(cv2.imdecode(jpeg, cv2.IMREAD_COLOR)) == (54_321, 1_234)
