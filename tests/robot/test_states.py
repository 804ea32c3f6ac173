"""The state table, walked exhaustively."""

from __future__ import annotations

import itertools

import pytest

from robot.states import LATCHED, TABLE, Action, Event, Machine, State

EVENTS = [event for event in Event if event is not Event.RESET]


def _successors(machine: Machine) -> list[tuple[str, Machine, tuple[Action, ...]]]:
    """Everything that can happen in a state: each event, and resets with each combination of conditions."""
    found = [(str(event), *machine.after(event)) for event in EVENTS]
    for cleared, standing in itertools.product((False, True), repeat=2):
        after, actions, _ = machine.reset(cleared, standing)
        found.append((f"reset {cleared} {standing}", after, actions))
    return found


def test_the_normal_way():
    machine, done = Machine(), []
    for event in (
        Event.CONFIGURE,
        Event.ACTIVATE,
        Event.ARM,
        Event.CHECKED,
        Event.RELEASE,
        Event.STANDING,
        Event.DEACTIVATE,
        Event.CLEAN_UP,
    ):
        machine, actions = machine.after(event)
        done.append((machine.state, actions))
    forget = (Action.FORGET,)
    assert done == [
        (State.INACTIVE, ()),
        (State.STANDBY, (Action.FORGET, Action.SEED)),
        (State.ARMING, forget),
        (State.ACTIVE, (Action.BEGIN,)),
        (State.SOFT_STOP, forget),
        (State.STANDBY, forget),
        (State.INACTIVE, forget),
        (State.UNCONFIGURED, ()),
    ]


@pytest.mark.parametrize("state", State)
def test_every_pair_of_state_and_event_has_one_outcome(state: State):
    for event in EVENTS:
        after, actions = Machine(state).after(event)
        listed = TABLE.get((state, event))
        assert (after.state, actions) == ((listed.to, listed.actions) if listed else (state, ()))


@pytest.mark.parametrize("state", State)
def test_an_estop_always_wins(state: State):
    assert Machine(state).after(Event.ESTOP)[0].state is State.ESTOP


@pytest.mark.parametrize("state", [state for state in State if state not in (State.UNCONFIGURED, State.ESTOP)])
def test_a_violation_is_a_fault(state: State):
    assert Machine(state).after(Event.VIOLATION)[0].state is State.FAULT


@pytest.mark.parametrize("state", sorted(LATCHED))
def test_latched_states_are_left_by_a_granted_reset_only(state: State):
    for event in EVENTS:
        after = Machine(state).after(event)[0].state
        assert after is state or (state, event) == (State.FAULT, Event.ESTOP)
    for cleared, standing in ((False, False), (False, True), (True, False)):
        after, actions, why = Machine(state).reset(cleared, standing)
        assert (after.state, actions) == (state, ()) and why
    after, actions, why = Machine(state).reset(True, True)
    assert (after.state, actions, why) == (State.INACTIVE, (Action.FORGET,), "")


@pytest.mark.parametrize("state", [state for state in State if state not in LATCHED])
def test_there_is_nothing_to_reset_elsewhere(state: State):
    after, actions, why = Machine(state).reset(True, True)
    assert (after.state, actions) == (state, ()) and f"nothing to reset in state {state}" in why


def test_an_ungranted_reset_is_an_error():
    with pytest.raises(ValueError, match="must be granted"):
        Machine(State.FAULT).after(Event.RESET)


def test_no_path_from_a_latched_state_to_motion_without_reset_and_seeding():
    """Walks every path; what is carried along is whether it was reset, and whether it was seeded after that."""
    waiting = {(state, False, False) for state in LATCHED}
    seen = set()
    while waiting:
        state, reset, seeded = waiting.pop()
        seen.add((state, reset, seeded))
        for what, after, actions in _successors(Machine(state)):
            entered = after.state in LATCHED and state not in LATCHED
            now_reset = False if entered else reset or (what.startswith("reset") and after.state is not state)
            now_seeded = False if entered else seeded or (now_reset and Action.SEED in actions)
            step = (after.state, now_reset, now_seeded)
            if step not in seen:
                waiting.add(step)
    assert State.ACTIVE in {state for state, _, _ in seen}
    for state, reset, seeded in seen:
        if state in (State.ARMING, State.ACTIVE):
            assert reset and seeded, (state, reset, seeded)


def test_active_is_entered_from_arming_only_and_every_state_can_be_reached():
    into = {state for (state, _), transition in TABLE.items() if transition.to is State.ACTIVE}
    assert into == {State.ARMING}
    reached, waiting = set(), [Machine()]
    while waiting:
        machine = waiting.pop()
        if machine.state not in reached:
            reached.add(machine.state)
            waiting += [after for _, after, _ in _successors(machine)]
    assert reached == set(State)
