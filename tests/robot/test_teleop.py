"""From keys and sticks to joint velocities, and from what a robot did to demonstrations. No transport."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from policies.interface import UserError
from robot.kinematics import Chain
from robot.observation import CommanderError
from robot.sources import JogSource
from robot.teleop.recording import LONGEST_S, Recorded, Recording, RecordingError
from robot.teleop.spool import Spool, SpoolError
from robot.teleop.tool import GRIPPER_S, MOVE_M_S, TURN_RAD_S, ToolMotion, rotation_vector
from robot.teleop.wish import KEY_S, STILL, Keyboard, Wish, pad_wish
from tests.robot.session import ARM7, FREE, Session
from tests.robot.test_commander import IMAGE, STATE, STEP_NS, bundle

CHAIN = Chain(ARM7.chain, ARM7.names)
TCP = CHAIN.index("tcp")
DT_S = 0.02


def tool_at(position: np.ndarray) -> np.ndarray:
    return CHAIN.poses(position[None])[0, TCP]


def moved_by(motion: ToolMotion, wish: Wish, seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """The tool before and after, of a robot that does what it is told."""
    position = ARM7.home.copy()
    before = tool_at(position)
    for _ in range(round(seconds / DT_S)):
        position = position + DT_S * motion.velocity(wish, position, DT_S)
    return before, tool_at(position)


@pytest.mark.parametrize(("key", "axis", "sign"), [("i", 0, 1), ("k", 0, -1), ("j", 1, 1), ("l", 1, -1), ("u", 2, 1), ("o", 2, -1)])
def test_the_tool_moves_straight_and_points_where_it_did(key: str, axis: int, sign: int):
    keyboard = Keyboard()
    assert keyboard.press(key, 0.0)
    before, after = moved_by(ToolMotion(ARM7), keyboard.wish(0.0), 1.0)
    way = after[:3, 3] - before[:3, 3]
    assert way[axis] == pytest.approx(sign * MOVE_M_S, rel=0.06)  # damping takes some
    assert np.abs(np.delete(way, axis)).max() < 4e-3
    assert np.linalg.norm(rotation_vector(after[:3, :3] @ before[:3, :3].T)) < 0.02


def test_the_tool_turns_in_place():
    before, after = moved_by(ToolMotion(ARM7), Wish(turn=1.0), 1.0)
    assert rotation_vector(after[:3, :3] @ before[:3, :3].T) == pytest.approx([0, 0, TURN_RAD_S], abs=0.03)
    assert np.abs(after[:3, 3] - before[:3, 3]).max() < 5e-3


def test_diagonals_are_no_faster():
    straight, slanted = (ToolMotion(ARM7).velocity(Wish(move=move), ARM7.home, DT_S) for move in ((0, 0.6, 0.8), (0, 3.0, 4.0)))
    assert slanted == pytest.approx(straight)


def test_a_tool_that_cannot_follow_is_not_wound_up():
    """A joint that hardly may turn: what is asked for stays the same, and nothing moves when the operator lets go."""
    limit = np.full(8, np.inf)
    limit[6] = 0.02
    motion, position, speeds = ToolMotion(ARM7, rate_limit=limit), ARM7.home.copy(), []
    for _ in range(1000):
        speeds.append(motion.velocity(Wish(turn=1.0), position, DT_S))
        position = position + DT_S * speeds[-1]
    turns = np.array(speeds)[:, 6]
    assert (np.sign(turns) == np.sign(turns[0])).all(), "it never turns back"
    assert not motion.velocity(STILL, position, DT_S).any()


def test_a_joint_at_its_end_is_left_there():
    position = ARM7.home.copy()
    position[2] = ARM7.joints[2].soft[1]
    assert ToolMotion(ARM7).velocity(Wish(joint=2, joint_share=1.0), position, DT_S)[2] == 0
    assert ToolMotion(ARM7).velocity(Wish(joint=2, joint_share=-1.0), position, DT_S)[2] < 0


def test_speed_scales_and_limits_keep_the_direction():
    wish, home = Wish(move=(1.0, 0.0, 0.0)), ARM7.home
    full, half = ToolMotion(ARM7).velocity(wish, home, DT_S), ToolMotion(ARM7, speed=0.5).velocity(wish, home, DT_S)
    assert half == pytest.approx(full / 2)
    limit = np.full(8, np.inf)
    limit[1] = abs(full[1]) / 4
    slow = ToolMotion(ARM7, rate_limit=limit).velocity(wish, home, DT_S)
    assert slow == pytest.approx(full / 4)


def test_no_control_step_is_faster_than_a_rate_limit():
    """Joints that speed up slowly, from standstill through the filter; 0.05 s at a time, as actions count."""
    slow = FREE.model_copy(update={"joints": tuple(joint.model_copy(update={"acceleration": 1.0}) for joint in FREE.joints)})
    motion, source = ToolMotion(ARM7, rate_limit=np.full(8, 0.25)), JogSource(slow)
    session = Session(source, slow, sag=np.zeros(8))
    session.arm()

    def push(now_s: float) -> None:
        source.jog(motion.velocity(Wish(move=(1.0, 0.0, 0.0)), session.plant.sent[-1][1].position, slow.period_s), now_s)

    session.run(1.0, push)
    positions = np.array([sent.position for _, sent in session.plant.sent])
    fastest = np.abs(positions[5:] - positions[:-5]).max() / 0.05
    assert 0.95 * 0.25 < fastest <= 0.25 * (1 + 1e-6)


def test_single_joints_and_the_gripper():
    assert ToolMotion(ARM7).velocity(Wish(joint=2, joint_share=-1.0), ARM7.home, DT_S) == pytest.approx(
        np.array([0, 0, -0.2 * 0.5 * 2.175, 0, 0, 0, 0, 0])
    )
    assert not ToolMotion(ARM7).velocity(Wish(joint=8, joint_share=1.0), ARM7.home, DT_S).any(), "there is no ninth joint"
    assert ToolMotion(ARM7).velocity(Wish(gripper=-1.0), ARM7.home, DT_S)[7] == -1 / GRIPPER_S
    assert ToolMotion(ARM7).velocity(Wish(gripper=1.0), ARM7.home, DT_S)[7] == 0, "it is open already"


def test_a_robot_without_kinematics_moves_single_joints_alone():
    motion = ToolMotion(FREE)
    assert not motion.velocity(Wish(move=(1.0, 0.0, 0.0)), ARM7.home, DT_S).any()
    assert motion.velocity(Wish(joint=0, joint_share=1.0), ARM7.home, DT_S)[0] > 0
    with pytest.raises(UserError, match="no link 'tcp'; its chain has none, so only single joints can be moved"):
        ToolMotion(FREE, "tcp")
    for speed in (0.0, 10.0):
        with pytest.raises(UserError, match="a speed is a share of full speed, above 0 and at most 1"):
            ToolMotion(ARM7, speed=speed)


def test_a_key_counts_for_a_moment():
    keyboard = Keyboard()
    assert keyboard.wish(0.0) is STILL
    assert keyboard.press("i", 1.0) and keyboard.wish(1.0 + KEY_S).move == (1, 0, 0)
    assert keyboard.wish(1.01 + KEY_S) is STILL
    assert not keyboard.press("+", 2.0), "no joint was chosen"
    assert keyboard.press("3", 2.0) and keyboard.wish(2.0) is STILL
    assert keyboard.press("-", 2.0) and keyboard.wish(2.0) == Wish(joint=2, joint_share=-1.0)
    assert not any(keyboard.press(key, 3.0) for key in " aderghqnyx0²é"), "these mean something else"


def test_a_gamepad():
    axes, buttons = [0.0] * 6, [0] * 8
    assert pad_wish(axes, buttons) == (STILL, False)
    axes[1], axes[0], axes[4], axes[3] = 1.0, -1.0, 0.54, 0.05
    buttons[0] = buttons[4] = 1
    assert pad_wish(axes, buttons) == (Wish((1.0, -1.0, pytest.approx(0.5)), 0.0, gripper=-1.0), True)
    with pytest.raises(ValueError, match="a gamepad needs 5 axes and 5 buttons, this one has 2 and 8"):
        pad_wish([0.0, 0.0], buttons)


def turning(recording: Recording, speed: float = 0.1, frames: int = 6, image_ns: int = STEP_NS) -> None:
    """Joint 1 turns by `speed` rad per control step; it lags by 2 ms; commands and states come at 100 Hz, images between them."""
    recording.begin()
    ms = 1_000_000
    for at_ns in range(0, (frames + 2) * STEP_NS, 10 * ms):
        for shift_ns, heard in ((0, recording.commanded), (2 * ms, recording.felt)):
            position = ARM7.home.copy()
            position[0] = speed * at_ns / STEP_NS
            position[7] = 0.25
            heard(at_ns + shift_ns, position)
    for k, at_ns in enumerate(range(STEP_NS + 5 * ms, (frames + 1) * STEP_NS, image_ns)):
        recording.saw("front", at_ns, np.full((4, 4, 3), k, np.uint8))


def demonstration(recording: Recording, instruction: str = "") -> Recorded:
    take = recording.end()
    assert take is not None
    return recording.demonstration(take, instruction)


def test_a_demonstration_is_what_the_policy_would_have_seen_and_done():
    recording = Recording(bundle(IMAGE, STATE), ARM7)
    turning(recording, speed=0.04)
    found = demonstration(recording, "turn")
    assert found.action == pytest.approx(np.tile([0.4, -0.5], (6, 1)), abs=1e-5)
    assert found.obs["observation.images.front"][:, 0, 0, 0].tolist() == list(range(6))
    assert found.obs["observation.state"] == pytest.approx(np.tile([ARM7.home[1], 0.25], (6, 1)))
    assert (found.instruction, found.clipped) == ("turn", 0)


def test_frames_are_a_control_step_apart_where_images_come_more_often():
    recording = Recording(bundle(IMAGE), ARM7)
    turning(recording, speed=0.04, image_ns=STEP_NS // 3)
    assert demonstration(recording).obs["observation.images.front"][:, 0, 0, 0].tolist() == [0, 3, 6, 9, 12, 15]


def test_commands_faster_than_actions_are_counted():
    recording = Recording(bundle(STATE), ARM7)
    assert recording.speed_limit == pytest.approx(np.array([0.1 / 0.05, *[0.0] * 6, np.inf])), "joints that no action moves stand"
    recording = Recording(bundle(IMAGE, STATE), ARM7)
    turning(recording, speed=0.15)
    found = demonstration(recording)
    assert found.clipped == 6 and found.action[:, 0] == pytest.approx(1.0)


def test_what_is_missing_is_said():
    recording = Recording(bundle(IMAGE, STATE), ARM7)
    assert recording.end() is None
    recording.begin()
    recording.commanded(0, ARM7.home)
    with pytest.raises(RecordingError, match=r"nothing was heard of joint states, commands, images of front"):
        demonstration(recording)
    turning(recording, frames=40, image_ns=4 * STEP_NS // 3)
    with pytest.raises(RecordingError, match=r"30 frames were seen in 40 control steps: the camera is slower than the policy"):
        demonstration(recording)
    turning(recording, frames=40)
    take = recording.end()
    assert take is not None
    del take.seen["front"][20:22]
    with pytest.raises(RecordingError, match=r"images of front did not come for 0.15 s; a control step is 0.05 s"):
        recording.demonstration(take, "")
    take.felt[:] = [(stamp_ns + 10**12, position) for stamp_ns, position in take.felt]
    with pytest.raises(RecordingError, match="do the stamps come from one clock"):
        recording.demonstration(take, "")
    with pytest.raises(CommanderError, match=r"camera 'front' shows \(5, 4\) pixels \(height, width\), the policy was trained on \(4, 4\)"):
        recording.saw("front", 0, np.zeros((5, 4, 3), np.uint8))
    with pytest.raises(CommanderError, match="the policy sees camera 'top'"):
        Recording(bundle(IMAGE.model_copy(update={"frame": "top"})), ARM7)


def test_a_second_camera_that_dies_is_noticed():
    recording = Recording(bundle(IMAGE, IMAGE.model_copy(update={"name": "observation.images.side", "frame": "side"})), ARM7)
    turning(recording, frames=20)
    for k in range(5):
        recording.saw("side", (k + 1) * STEP_NS, np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(RecordingError, match=r"images of side did not come for 0\.76 s"):
        demonstration(recording)


def test_nothing_is_kept_of_before_and_after():
    recording = Recording(bundle(IMAGE, STATE), ARM7)
    turning(recording)
    recording.end()
    assert not recording.running and not recording.too_long
    turning(recording, frames=3)
    assert len(demonstration(recording).action) == 3


def test_an_episode_that_is_too_long_is_known():
    recording = Recording(bundle(STATE), ARM7)
    recording.begin()
    for seconds in (0, LONGEST_S):
        recording.felt(round(seconds * 1e9), ARM7.home)
    assert not recording.too_long
    recording.felt(round((LONGEST_S + 0.1) * 1e9), ARM7.home)
    assert recording.too_long


def test_what_comes_again_with_a_stamp_replaces_what_came_before():
    recording = Recording(bundle(STATE), ARM7)
    recording.begin()
    for value in (1.0, 2.0):
        recording.felt(5, np.full(8, value))
    recording.felt(4, np.zeros(8))
    take = recording.end()
    assert take is not None and [(stamp_ns, position[0]) for stamp_ns, position in take.felt] == [(5, 2.0)]


def test_a_spool_gives_back_what_it_was_given(tmp_path: Path):
    recording, spool = Recording(bundle(IMAGE, STATE), ARM7), Spool(tmp_path / "data.spool", "abc")
    episodes = []
    for frames in (6, 4):
        turning(recording, frames=frames)
        episodes.append(demonstration(recording, "open the drawer"))
        spool.add(episodes[-1])
    again = Spool(tmp_path / "data.spool", "abc")
    assert len(again) == 2 and len(again[:1]) == 1
    with pytest.raises(SpoolError, match="was recorded with the features of another bundle"):
        Spool(tmp_path / "data.spool", "def")
    for found, episode in zip(again, episodes, strict=True):
        assert (found.instruction, found.clipped) == ("open the drawer", episode.clipped)
        np.testing.assert_array_equal(found.action, episode.action)
        assert found.obs.keys() == episode.obs.keys()
        for name, value in episode.obs.items():
            np.testing.assert_array_equal(found.obs[name], value)
            assert found.obs[name].dtype == value.dtype
