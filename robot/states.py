"""The states of a deployment, as a table: (state, event) → (state, actions). What is not in the table changes nothing.

    UNCONFIGURED → INACTIVE → STANDBY (holds where it is) → ARMING (checks, ramp) → ACTIVE (follows its source)
    ACTIVE or ARMING → SOFT_STOP (decelerates) → STANDBY      dead-man switch released, source quiet, disarmed
    any → FAULT, any → ESTOP                                   latched

FAULT and ESTOP end in INACTIVE, and only there, when the cause is gone AND a reset is requested AND the robot stands.
The way back to ACTIVE then leads through STANDBY, where the command is seeded from the measurement anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """What the deployment is doing."""

    UNCONFIGURED = "unconfigured"
    INACTIVE = "inactive"
    """Reads, sends nothing."""
    STANDBY = "standby"
    """Sends one position: where it stood when it was activated, or where commands came to rest."""
    ARMING = "arming"
    """Holds while checks run; then ACTIVE begins with a ramp."""
    ACTIVE = "active"
    SOFT_STOP = "soft_stop"
    """Decelerates within the limits."""
    FAULT = "fault"
    """Decelerates as the robot's stop mode says and holds; sends nothing where nothing was sent before. Latched."""
    ESTOP = "estop"
    """Decelerates, or is damped until it stands, and then sends nothing: a robot that gets its power back must find no command waiting.
    Latched."""


class Event(StrEnum):
    """What happened."""

    CONFIGURE = "configure"
    CLEAN_UP = "clean_up"
    ACTIVATE = "activate"
    DEACTIVATE = "deactivate"
    ARM = "arm"
    CHECKED = "checked"
    """Every check of arming passed."""
    REFUSED = "refused"
    """One did not."""
    DISARM = "disarm"
    RELEASE = "release"
    """Dead-man switch released, lease over, or source quiet."""
    STANDING = "standing"
    """Commanded and measured velocity are 0."""
    VIOLATION = "violation"
    """Hard violation, stale or frozen state, missed deadlines, command conflict, starvation."""
    ESTOP = "estop"
    """E-stop pressed, or its source lost."""
    RESET = "reset"
    """Requested, and granted by `Machine.reset`."""


class Action(StrEnum):
    """What a transition makes the runtime do."""

    SEED = "seed"
    """Take the measured position, at rest, as the last command."""
    FORGET = "forget"
    """Drop chunks, setpoints and leases of sources."""
    BEGIN = "begin"
    """Start the source: its first action is approached by a ramp."""


@dataclass(frozen=True)
class Transition:
    """Where an event leads, and what is done on the way."""

    to: State
    actions: tuple[Action, ...] = ()


def _table() -> dict[tuple[State, Event], Transition]:
    table = {
        (State.UNCONFIGURED, Event.CONFIGURE): Transition(State.INACTIVE),
        (State.INACTIVE, Event.CLEAN_UP): Transition(State.UNCONFIGURED),
        (State.INACTIVE, Event.ACTIVATE): Transition(State.STANDBY, (Action.FORGET, Action.SEED)),
        (State.STANDBY, Event.DEACTIVATE): Transition(State.INACTIVE, (Action.FORGET,)),
        (State.STANDBY, Event.ARM): Transition(State.ARMING, (Action.FORGET,)),
        (State.ARMING, Event.CHECKED): Transition(State.ACTIVE, (Action.BEGIN,)),
        (State.ARMING, Event.REFUSED): Transition(State.STANDBY, (Action.FORGET,)),
        (State.SOFT_STOP, Event.STANDING): Transition(State.STANDBY, (Action.FORGET,)),
        (State.FAULT, Event.RESET): Transition(State.INACTIVE, (Action.FORGET,)),
        (State.ESTOP, Event.RESET): Transition(State.INACTIVE, (Action.FORGET,)),
    }
    for state in (State.ARMING, State.ACTIVE):
        for event in (Event.DISARM, Event.RELEASE, Event.DEACTIVATE):
            table[state, event] = Transition(State.SOFT_STOP, (Action.FORGET,))
    for state in State:
        if state is not State.ESTOP:
            table[state, Event.ESTOP] = Transition(State.ESTOP, (Action.FORGET,))
        if state not in (State.FAULT, State.ESTOP, State.UNCONFIGURED):
            table[state, Event.VIOLATION] = Transition(State.FAULT, (Action.FORGET,))
    return table


TABLE = _table()
LATCHED = frozenset({State.FAULT, State.ESTOP})
MOVING = frozenset({State.ARMING, State.ACTIVE, State.SOFT_STOP})


@dataclass(frozen=True)
class Machine:
    """A state. `after` gives the next one; nothing is changed in place."""

    state: State = State.UNCONFIGURED

    def after(self, event: Event) -> tuple[Machine, tuple[Action, ...]]:
        """The machine after an event and what must be done. Raises `ValueError` for `RESET`, which needs `reset`."""
        if event is Event.RESET:
            raise ValueError("a reset must be granted: call Machine.reset, which asks for the conditions")
        return self._after(event)

    def reset(self, cause_cleared: bool, standing: bool) -> tuple[Machine, tuple[Action, ...], str]:
        """The machine after a requested reset, what must be done, and why it was refused (empty if it was not)."""
        if self.state not in LATCHED:
            return self, (), f"nothing to reset in state {self.state}"
        if not cause_cleared:
            return self, (), f"the cause of {self.state} is still there"
        if not standing:
            return self, (), "the robot still moves"
        return *self._after(Event.RESET), ""

    def _after(self, event: Event) -> tuple[Machine, tuple[Action, ...]]:
        transition = TABLE.get((self.state, event))
        return (Machine(transition.to), transition.actions) if transition else (self, ())
