"""The runtime on a robot that obeys physics: arming, stopping, and every fault on the way."""

from __future__ import annotations

import numpy as np
import pytest

from robot.loop import run
from robot.profile import load_profile
from robot.runtime import Operators, Runtime, Tick
from robot.sources import JogSource
from robot.states import State
from tests.repo.imports import ROOT
from tests.robot.session import FREE, Session, jogging


def test_arming_does_not_move_the_robot():
    session = Session(JogSource(FREE))
    before = session.plant.position
    session.run(0.05)
    assert not session.plant.sent, "inactive sends nothing"
    session.arm()
    session.run(1.0)
    # The first command is where the robot is; it sags once more under its own weight, by what it sagged before.
    assert np.abs(session.plant.sent[0][1].position - before).max() < 1e-4
    assert np.abs(session.plant.position - before).max() < 2.5e-3
    commands = np.array([motion.position for _, motion in session.plant.sent])
    assert np.ptp(commands, axis=0).max() == 0.0


def test_the_loop_brings_the_robot_to_rest_when_it_ends():
    session = Session(JogSource(FREE))
    jog = JogSource(FREE)
    session.runtime.select(jog)
    session.arm()

    def on_tick(tick: Tick) -> bool:
        jog.jog(jogging(0, 1.0), session.plant.time_s)
        return session.plant.time_s < 2.0

    run(session.runtime, session.plant, session.clock, FREE.period_s, lambda: session.operators, on_tick)
    assert session.runtime.state is State.SOFT_STOP
    assert not session.plant.sent[-1][1].velocity.any()
    assert session.plant.sent[-20][1].velocity[0] > 0.5
    session.assert_limits()


def test_who_takes_over_a_moving_robot_brakes_it_and_does_not_drive_it_back():
    slow = FREE.model_copy(update={"joints": tuple(j.model_copy(update={"acceleration": 2.0, "jerk": 40.0}) for j in FREE.joints)})
    session, first, second = Session(profile=slow), JogSource(slow), JogSource(slow)
    session.runtime.select(first)
    session.arm()
    session.run(1.5, lambda now_s: first.jog(jogging(0, 1.0), now_s))
    session.runtime.select(second)
    since = len(session.plant.sent)
    session.run(1.5, lambda now_s: second.jog(jogging(0, 0.0), now_s))
    sent = np.array([motion.position[0] for _, motion in session.plant.sent[since:]])
    assert session.runtime.state is State.ACTIVE and sent[-1] - sent[0] > 0.1, "it came to rest further on"
    assert np.diff(sent).min() > -1e-4
    assert not session.plant.sent[-1][1].velocity.any()
    session.assert_limits()


@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyboardInterrupt()])
def test_an_exception_stops_the_robot_first(error: BaseException):
    session, jog = Session(), JogSource(FREE)
    session.runtime.select(jog)
    session.arm()

    def on_tick(tick: Tick) -> bool:
        jog.jog(jogging(0, 1.0), session.plant.time_s)
        if session.plant.time_s > 2.0:
            raise error
        return True

    with pytest.raises(type(error)):
        run(session.runtime, session.plant, session.clock, FREE.period_s, lambda: session.operators, on_tick)
    assert not session.plant.sent[-1][1].velocity.any()
    assert session.runtime.state is (State.FAULT if isinstance(error, RuntimeError) else State.SOFT_STOP)
    session.assert_limits()


def _pressed(session: Session) -> None:
    session.operators = Operators(estop_pressed=True)


def _lost(session: Session) -> None:
    session.operators = Operators(estop_live=False, estop_lost=True)


def _silent(session: Session) -> None:
    session.plant.silent = True


def _frozen(session: Session) -> None:
    session.plant.frozen = True


def _conflict(session: Session) -> None:
    session.plant.competitors = 1


def _late(session: Session) -> None:
    session.clock.oversleep_s = 0.2


def _pushed(session: Session) -> None:
    session.plant.position = session.plant.position + 0.9


@pytest.mark.parametrize(
    ("harm", "state", "cause"),
    [
        (_pressed, State.ESTOP, "the e-stop is pressed"),
        (_lost, State.ESTOP, "the e-stop fell silent"),
        (_silent, State.FAULT, "state_age"),
        (_frozen, State.FAULT, "state_frozen"),
        (_conflict, State.FAULT, "conflict"),
        (_late, State.FAULT, "interval"),
        (_pushed, State.FAULT, "not_following"),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) else "",
)
def test_harm_latches_stops_within_the_limits_and_a_clean_start_works(harm, state: State, cause: str):
    jog = JogSource(FREE)
    session = Session(jog)
    session.arm()
    session.run(0.3, lambda now_s: jog.jog(jogging(0, 0.5), now_s))
    moving = session.plant.sent[-1][1]
    assert moving.velocity[0] == pytest.approx(0.5)
    since = len(session.plant.sent)
    harm(session)
    session.run(1.2, lambda now_s: jog.jog(jogging(0, 0.5), now_s))
    assert session.runtime.state is state and cause in session.runtime.cause
    after = np.array([motion.position[0] for _, motion in session.plant.sent[since:]])
    if harm is not _frozen:  # which needs 0.5 s to be noticed
        # From 0.5 rad/s: v²/2A + vA/2J at most, v^1.5/√J = 0.005 rad here, and one tick before it is noticed.
        assert after.max() - moving.position[0] <= 0.5 * 6 * FREE.period_s + 0.006
    if harm is not _late:
        session.assert_limits()
    assert (session.ticks[-1].command is None) == (state is State.ESTOP)
    assert session.runtime.arm() == f"arming starts from standby, the state is {state}: {session.runtime.cause}"

    # Not before the cause is gone.
    if harm is not _pushed and harm is not _late:
        assert "the cause of" in session.runtime.reset()
    session.operators, session.plant.silent, session.plant.frozen, session.plant.competitors = Operators(), False, False, 0
    session.clock.oversleep_s = 0.0
    session.run(1.0)
    assert session.runtime.reset() == ""
    assert session.runtime.state is State.INACTIVE
    rest = session.plant.position
    assert session.runtime.activate() == ""
    session.run(0.1)
    assert np.abs(session.plant.sent[-1][1].position - rest).max() < 2e-3, "seeded from where the robot is"
    assert session.runtime.arm() == ""
    session.run(0.5, lambda now_s: jog.jog(jogging(0, 0.5), now_s))
    assert session.runtime.state is State.ACTIVE
    assert session.plant.sent[-1][1].position[0] - rest[0] > 0.1


def test_a_released_dead_man_switch_stops_softly_and_can_arm_again():
    jog = JogSource(FREE)
    session = Session(jog)
    session.arm()
    session.run(0.5, lambda now_s: jog.jog(jogging(0, 1.0), now_s))
    session.operators = Operators(deadman_held=False)
    session.run(1.0, lambda now_s: jog.jog(jogging(0, 1.0), now_s))
    assert session.runtime.state is State.STANDBY
    session.assert_limits()
    assert session.runtime.arm() == "the dead-man switch is not held"
    session.operators = Operators()
    session.run(0.02)
    assert session.runtime.arm() == ""


def test_what_hinders_arming_is_said():
    session = Session()
    session.run(0.05)
    assert session.runtime.arm() == "arming starts from standby, the state is inactive"
    assert session.runtime.activate() == ""
    session.operators = Operators(estop_live=False)
    session.run(0.05)
    assert session.runtime.arm(["the bundle was trained for another robot"]) == (
        "the bundle was trained for another robot; no source is selected; no e-stop is heard"
    )
    assert session.runtime.state is State.STANDBY
    session.plant.velocity = session.plant.velocity + 1.0
    session.run(0.02)
    assert "the robot moves" in session.runtime.arm()


def test_a_robot_that_moves_is_not_activated():
    session = Session()
    session.run(0.05)
    assert session.runtime.standing()
    session.plant.velocity = session.plant.velocity + 1.0
    session.run(0.02)
    assert not session.runtime.standing()
    assert session.runtime.activate() == "the robot moves"
    assert session.runtime.state is State.INACTIVE


def test_a_robot_without_a_measurement_is_not_activated():
    runtime = Runtime(FREE, deadman_required=False)
    runtime.tick(0.0, FREE.period_s, None, Operators())
    assert runtime.activate() == "there is no fresh measurement of every joint"


def test_a_driver_that_gives_nothing_any_more_is_a_fault():
    session = Session(JogSource(FREE))
    session.arm()
    session.plant.read = lambda: None
    session.run(0.1)
    assert session.runtime.state is State.FAULT and session.runtime.cause.startswith("state_age")


def test_damping_is_asked_for_where_the_robot_stops_by_it():
    g1 = load_profile(ROOT / "configs" / "robots" / "g1.yaml")
    jog = JogSource(g1)
    session = Session(
        jog, g1.model_copy(update={"safety": g1.safety.model_copy(update={"estop_required": False})}), start=g1.home, sag=np.zeros(29)
    )
    session.arm()
    assert not session.ticks[-1].damped
    session.plant.competitors = 1
    session.run(0.1)
    assert session.runtime.state is State.FAULT and session.ticks[-1].damped
    session.operators = Operators(estop_pressed=True)
    session.run(0.5)
    assert session.runtime.state is State.ESTOP and session.ticks[-1].damped
    assert session.ticks[-1].command is not None, "who is damped sinks for longer than commands move"
    session.run(3.0)
    assert session.ticks[-1].command is None, "a robot that gets its power back must find no command waiting"


@pytest.mark.parametrize("name", ["arm7", "g1"])
def test_a_stop_while_nothing_is_sent_sends_nothing(name: str) -> None:
    """Somebody else may command the robot then."""
    profile = load_profile(ROOT / "configs" / "robots" / f"{name}.yaml")
    session = Session(None, profile, start=profile.home, sag=np.zeros(len(profile.joints)))
    session.run(0.05)
    assert session.runtime.activate() == ""
    session.run(0.2)
    assert session.ticks[-1].command is not None
    session.runtime.deactivate()
    session.run(0.1)
    assert session.ticks[-1].command is None
    since = len(session.ticks)
    session.runtime.fault("for this test")
    session.run(0.2)
    session.operators = Operators(estop_pressed=True)
    session.run(0.2)
    assert session.runtime.state is State.ESTOP and all(tick.command is None for tick in session.ticks[since:])


def test_deadlines_are_absolute_and_misses_are_counted():
    session = Session(JogSource(FREE))
    session.arm()
    begin_s, count = session.plant.time_s, len(session.ticks)
    session.clock.oversleep_s = 0.004
    session.run(1.0)
    assert len(session.ticks) - count == pytest.approx(100, abs=1), "oversleeping must not add up"
    assert session.runtime.missed == 0
    session.clock.oversleep_s = 0.025
    session.run(1.0)
    assert session.runtime.missed == pytest.approx(66, abs=4), "a tick that takes three periods misses two"
    assert session.plant.time_s - begin_s == pytest.approx(2.0, abs=0.05)
