"""Sources on a robot that obeys physics: a policy's late chunks, a recording, an operator, and one after the other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from policies.action_map import ActionTerm
from policies.interface import ActionSpec
from robot.actions import JointActions
from robot.chunks import Border, Chunk
from robot.limiter import Motion
from robot.profile import load_profile
from robot.scheduler import timing_of
from robot.sources import JogSource, PolicySource, ReplaySource
from robot.states import State
from tests.repo.imports import ROOT
from tests.robot.session import ARM7, FREE, Session, jogging, moved, replay


def test_replay_reaches_its_end_within_the_limits():
    session = Session(replay())
    session.arm()
    session.run(2.0)
    assert session.plant.position == pytest.approx(moved(0, 0.6), abs=5e-3)
    assert np.array_equal(session.plant.sent[-1][1].position, moved(0, 0.6))
    session.assert_limits()
    path = np.array(session.plant.path)
    assert path[:, 0].max() < 0.6 + 5e-3
    assert not [event for event in session.events if "fault" in event]


def test_a_policy_is_followed_through_late_chunks():
    borders: list[Border] = []
    source = PolicySource(timing_of(FREE), lambda found: borders.append(found) if isinstance(found, Border) else None)
    session = Session(source)
    session.runtime.filter.slow(1.0)
    session.arm()
    begin_s, waiting = session.plant.time_s, list[tuple[float, Chunk]]()

    def wanted(time_s: np.ndarray) -> np.ndarray:
        swing = 0.3 * np.sin(1.5 * (time_s - begin_s))
        return ARM7.home + np.outer(swing, np.eye(8)[0])

    def policy(now_s: float) -> None:
        source.heartbeat(now_s)
        if not waiting or now_s - waiting[-1][1].t0_s >= 0.2 - 1e-9:
            waiting.append((now_s + 0.12, Chunk(len(waiting), now_s, 0.05, wanted(now_s + 0.05 * np.arange(16)))))
        for at_s, chunk in waiting:
            if now_s - FREE.period_s < at_s <= now_s:
                source.offer(chunk, now_s)

    session.run(4.0, policy)
    sent = [(time_s, motion.position[0]) for time_s, motion in session.plant.sent if time_s > begin_s + 1.5]
    # Time errors of commands: at most half a step of 0.05 s at up to 0.45 rad/s.
    error = np.array([position - wanted(np.array([time_s]))[0, 0] for time_s, position in sent])
    assert np.abs(error).max() < 0.45 * 0.025
    assert session.runtime.state is State.ACTIVE
    assert len(borders) >= 17 and all(border.starved_s == 0 for border in borders[1:])
    session.assert_limits()


def test_hand_over_is_bumpless_in_both_directions():
    jog, recorded = JogSource(FREE), replay()
    session = Session(recorded)
    session.arm()
    session.run(0.8)
    speed = session.plant.sent[-1][1].velocity[0]
    assert speed > 0.2
    session.runtime.select(jog)
    session.run(0.3, lambda now_s: jog.jog(jogging(1, -0.3), now_s))
    session.runtime.select(recorded)
    session.run(2.0)
    assert session.plant.position == pytest.approx(moved(0, 0.6), abs=5e-3)
    session.assert_limits()
    assert [event for event in session.events if "takes over" in event] == ["teleop takes over", "replay takes over"]


def test_the_source_that_lost_the_lease_is_not_heard():
    jog, other = JogSource(FREE), JogSource(FREE)
    other.name = "other"
    session = Session(jog)
    session.arm()
    session.runtime.select(other)

    def both(now_s: float) -> None:
        jog.jog(jogging(0, 1.0), now_s)
        other.jog(np.zeros(8), now_s)

    session.run(0.5, both)
    commands = np.array([motion.position[0] for _, motion in session.plant.sent])
    assert np.ptp(commands) == 0.0


def test_jog_turns_round_at_once_and_stops_when_it_is_quiet():
    jog = JogSource(FREE)
    session = Session(jog)
    session.arm()
    session.run(0.6, lambda now_s: jog.jog(jogging(0, 1.0), now_s))
    assert session.plant.sent[-1][1].velocity[0] == pytest.approx(1.0)
    session.run(0.2, lambda now_s: jog.jog(jogging(0, -1.0), now_s))
    assert session.plant.sent[-1][1].velocity[0] == pytest.approx(-1.0, rel=0.05)
    session.run(0.25)
    assert session.plant.sent[-1][1].velocity[0] == 0.0, "0.2 s of silence"
    session.run(0.2)
    assert session.runtime.state in (State.SOFT_STOP, State.STANDBY), "0.3 s of silence: the lease is over"
    session.assert_limits()


@pytest.mark.parametrize(("way", "end"), [(-1.0, 0.0), (1.0, 1.0)])
def test_a_gripper_is_jogged_to_its_end_and_not_to_its_limit(way: float, end: float):
    low, high = ARM7.joints[7].soft
    assert low < 0 and high > 1
    jog, wished = JogSource(ARM7), ARM7.home
    jog.begin(0.0, Motion.rest(ARM7.home))
    for k in range(1, 201):
        jog.jog(jogging(7, way), 0.01 * k)
        position = jog.setpoint(0.01 * k).position
        assert position is not None
        wished = position
        jog.sent(0.01 * k, Motion.rest(wished))
    assert wished[7] == end


ROBOTS = sorted(path.stem for path in (ROOT / "configs" / "robots").glob("*.yaml"))


@pytest.mark.parametrize("share", [0.02, 0.1, 0.35, 0.7, 1.0])
@pytest.mark.parametrize("robot", ROBOTS)
def test_no_robot_goes_faster_than_it_is_jogged(robot: str, share: float):
    """Back and forth, at a share of what the bridge allows: a late start is not made up for, and nothing swings."""
    profile = load_profile(ROOT / "configs" / "robots" / f"{robot}.yaml")
    safety = profile.safety.model_copy(update={"ramp_s": 0.1, "estop_required": False})
    profile = profile.model_copy(update={"workspace": None, "collision": None, "chain": (), "safety": safety})
    jog = JogSource(profile)
    session = Session(jog, profile, sag=np.zeros(len(profile.joints)))
    session.arm()
    velocity, speed = np.zeros(len(profile.joints)), share * safety.speed_cap * profile.joints[0].velocity
    since = len(session.plant.sent)
    for way in (1, -1, 1):
        velocity[0] = way * speed
        session.run(min(1.0, 0.4 / speed), lambda now_s: jog.jog(velocity, now_s))
        assert session.plant.sent[-1][1].velocity[0] == pytest.approx(way * speed, rel=0.02)
    assert np.abs([motion.velocity[0] for _, motion in session.plant.sent[since:]]).max() <= 1.02 * speed
    assert session.runtime.state is State.ACTIVE


def test_starvation_is_a_fault():
    source = PolicySource(timing_of(FREE))
    session = Session(source)
    session.arm()
    source.offer(Chunk(0, session.plant.time_s, 0.05, np.linspace(ARM7.home, moved(0, 0.1), 8)), session.plant.time_s)
    session.run(2.5, source.heartbeat)
    assert session.runtime.state is State.FAULT and session.runtime.cause == "no actions of policy for 1.0 s"
    session.assert_limits()


def test_a_silent_policy_is_released():
    source = PolicySource(timing_of(FREE))
    session = Session(source)
    session.arm()
    session.run(1.0)
    assert session.runtime.state is State.STANDBY
    assert any("policy is silent" in event for event in session.events)


@pytest.mark.parametrize("positions", [np.zeros((5, 7)), np.zeros((1, 8)), np.full((5, 8), np.nan)])
def test_a_bad_trajectory_is_refused(positions: np.ndarray):
    with pytest.raises(ValueError, match="trajectory"):
        ReplaySource(positions, 0.05, FREE)


def test_two_runs_are_bit_equal():
    paths = []
    for _ in range(2):
        session = Session(replay())
        session.arm()
        session.run(1.0)
        paths.append(np.array([motion.position for _, motion in session.plant.sent]))
    assert np.array_equal(*paths)


def test_limits_hold_whatever_the_source_says():
    class Mad(JogSource):
        """Asks for anything, in any tick."""

        name = "mad"

        def __init__(self) -> None:
            super().__init__(FREE)
            self.random = np.random.default_rng(7)

        def setpoint(self, now_s: float):
            wild = self.random.choice([np.nan, np.inf, -1e9, 1e9, 0.0, 1.0], 8)
            calm = self._target + self.random.normal(0, 0.1, 8)
            found = super().setpoint(now_s)
            return replace(found, position=wild if self.random.random() < 0.1 else calm, velocity=self.random.normal(0, 2, 8))

        def heard_s(self, now_s: float) -> float:
            return now_s

    mad = Mad()
    session = Session(mad)
    session.runtime.filter.slow(1.0)
    session.arm()
    for _ in range(12):  # a wish that is not finite releases the source; an operator arms it again
        session.run(0.5)
        session.runtime.arm()
    assert session.runtime.filter.counts["not_finite"] > 3
    session.assert_limits()


def test_a_recording_that_starts_far_away_is_not_played():
    far = ReplaySource(np.linspace(moved(0, 0.7), moved(0, 0.9), 5), 0.05, FREE)
    session = Session(far)
    session.arm()
    session.run(0.5)
    assert far.refusal.startswith("far: its first step is further from where the robot stands than the leash")
    assert np.ptp([motion.position for _, motion in session.plant.sent], axis=0).max() == 0.0


def test_in_lockstep_a_policy_passes_bit_by_bit():
    """At the policy's own rate, without ramp, joint_delta actions as wild as they may be are sent as they are."""
    rates = FREE.rates.model_copy(update={"command_hz": 20.0})
    profile = FREE.model_copy(update={"rates": rates, "safety": FREE.safety.model_copy(update={"ramp_s": 0.0})})
    names = (*ARM7.names[:7], "gripper")
    terms = [
        ActionTerm(
            name=name, space="joint", target=name, kind="delta", unit="rad", scale=0.1, low=joint.position[0], high=joint.position[1]
        )
        for name, joint in zip(names[:7], ARM7.joints, strict=False)
    ]
    terms.append(ActionTerm(name="gripper", space="gripper", target="gripper", kind="absolute", unit="1", scale=0.5, offset=0.5))
    actions = JointActions(terms, ActionSpec(names=names, representation="delta", low=(-1.0,) * 8, high=(1.0,) * 8), profile)
    source = PolicySource(timing_of(profile))
    session = Session(source, profile, sag=np.zeros(8))
    session.runtime.filter.slow(1.0)
    session.arm()
    rng, wanted, last = np.random.default_rng(0), list[np.ndarray](), session.plant.sent[-1][1].position
    begin = len(session.plant.sent)

    def policy(now_s: float) -> None:
        nonlocal last
        if len(wanted) % 4 == 0:  # chunks of eight, four are executed
            home = np.clip((ARM7.home[:7] - last[:7]) / 0.5, -1, 1)
            chunk = np.clip(home + rng.choice([-1.0, 0.3, 1.0], (8, 7)), -1, 1)
            positions = actions.to_joints(np.hstack([chunk, rng.choice([-1.0, 1.0], (8, 1))]).astype(np.float32), last)
            source.offer(Chunk(len(wanted), now_s + profile.period_s, 0.05, positions), now_s + profile.period_s)
            policy.positions = positions
        last = policy.positions[len(wanted) % 4]
        wanted.append(last)

    session.run(20.0, policy)
    assert len(wanted) == 400
    sent = np.array([motion.position for _, motion in session.plant.sent[begin:]])
    assert np.array_equal(sent, np.array(wanted))
    assert not session.runtime.filter.counts
