"""The control loop without a transport: read → source → safety filter → send, under the state table.

`Runtime.tick` is one pass and touches neither threads nor clocks; `robot.loop` calls it by absolute deadlines, the ROS 2 bridge
from its control thread. Callers of several threads hold one lock around every method.

J joints, units of the profile. Times are monotonic seconds of one clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from robot.limiter import Motion
from robot.profile import RobotProfile
from robot.safety import Intervention, Measurement, SafetyFilter, Verdict, Wish
from robot.sources import Source
from robot.states import LATCHED, MOVING, Action, Event, Machine, State

STANDING = 0.02
"""Share of the velocity limit below which a joint stands."""
SINKING_S = 1.0
"""How long a robot is damped after an e-stop, at least."""
CURED_BY_SEED = frozenset({"not_following"})
"""Faults that do not hinder a reset, after which commands start from the measurement."""


@dataclass(frozen=True)
class Operators:
    """What people say at one moment."""

    estop_pressed: bool = False
    estop_live: bool = True
    """Whether an e-stop source is heard."""
    estop_lost: bool = False
    """Whether one was heard before and fell silent."""
    deadman_held: bool = True


@dataclass(frozen=True)
class Tick:
    """What one pass did."""

    state: State
    command: Motion | None
    """To be sent; None sends nothing."""
    damped: bool
    """Send the profile's damping gains, without stiffness, instead of positions (stop mode `damping`)."""
    events: tuple[str, ...]
    """Sentences about what changed, and why."""
    verdict: Verdict | None


class Runtime:
    """Owns the state of one robot, its filter and which source may command."""

    def __init__(self, profile: RobotProfile, deadman_required: bool, image_limit_s: Mapping[str, float] | None = None) -> None:
        self.cause = ""
        """Why a FAULT or ESTOP is latched."""
        self.filter = SafetyFilter(profile, image_limit_s)
        """Speed cap, image freeze detection and counts are asked for here."""
        self._profile, self._deadman_required = profile, deadman_required
        self._velocity = np.array([joint.velocity for joint in profile.joints])
        self._machine, _ = Machine().after(Event.CONFIGURE)
        self._source: Source | None = None
        self._measured: Measurement | None = None
        self._now_s, self._sequence, self._missed = 0.0, 0, 0
        self._faults: tuple[Intervention, ...] = ()
        self._operators = Operators(estop_live=False)
        self._events: list[str] = []
        self._sending, self._latched_s = False, 0.0

    @property
    def state(self) -> State:
        """What the robot is doing."""
        return self._machine.state

    @property
    def missed(self) -> int:
        """Deadlines that passed unused so far."""
        return self._missed

    def select(self, source: Source) -> None:
        """Let a source command from now on. While ACTIVE it takes over from what was commanded last."""
        if self._source is not None and self._source is not source:
            self._source.forget()
        self._source = source
        if self.state is State.ACTIVE:
            self._events.append(f"{source.name} takes over")
            self._begin()

    def activate(self) -> str:
        """INACTIVE → STANDBY: hold where the robot is. Returns why not, empty if it does."""
        if self.state is not State.INACTIVE:
            return f"activation starts from inactive, the state is {self.state}" + self._because()
        measured = self._measured
        if measured is None or not (np.isfinite(measured.position).all() and self._fresh(measured)):
            return "there is no fresh measurement of every joint"
        if not self.standing():
            return "the robot moves"
        self._happen(Event.ACTIVATE, "activated")
        return ""

    def deactivate(self) -> None:
        """STANDBY → INACTIVE; a moving robot first stops softly."""
        self._happen(Event.DEACTIVATE, "deactivated")

    def arm(self, refusals: Sequence[str] = ()) -> str:
        """STANDBY → ARMING → ACTIVE. Returns why not, empty if it is armed.

        `refusals` are what other checks found: bundle, topics, rates.
        """
        if self.state is not State.STANDBY:
            return f"arming starts from standby, the state is {self.state}" + self._because()
        self._happen(Event.ARM, "arming")
        found = [*refusals, *self._checks()]
        if found:
            self._happen(Event.REFUSED, "; ".join(found))
            return "; ".join(found)
        self._happen(Event.CHECKED, "armed")
        return ""

    def disarm(self) -> None:
        """ACTIVE → SOFT_STOP → STANDBY."""
        self._happen(Event.DISARM, "disarmed")

    def fault(self, cause: str) -> None:
        """A violation that the caller found."""
        self._latch(Event.VIOLATION, cause)

    def reset(self) -> str:
        """FAULT or ESTOP → INACTIVE, if the cause is gone and the robot stands. Returns why not, empty if it is reset."""
        there = [fault for fault in self._faults if fault.code not in CURED_BY_SEED]
        cleared = not there and not self._stopped_by_people()
        before = self.state
        self._machine, actions, refusal = self._machine.reset(cleared, self.standing())
        self._do(actions)
        if refusal:
            return refusal + self._because()
        self._events.append(f"{before} → {self.state}: reset")
        self.cause = ""
        return ""

    def tick(
        self,
        now_s: float,
        dt_s: float,
        measured: Measurement | None,
        operators: Operators,
        others: int = 0,
        image_age_s: Mapping[str, float] | None = None,
    ) -> Tick:
        """One pass.

        Args:
            now_s: time of this tick.
            dt_s: since the last one: a whole number of periods.
            measured: newest measurement; None if there is none.
            operators: what people say.
            others: publishers on the command topics besides us.
            image_age_s: age of each image that the source depends on.
        """
        measured = self._measured if measured is None else measured  # a robot that fell silent is stale, not absent
        self._now_s, self._measured, self._operators = now_s, measured, operators
        self._missed += max(round(dt_s / self._profile.period_s) - 1, 0) if np.isfinite(dt_s) else 0
        self._listen(operators)
        if self.state in (State.UNCONFIGURED, State.INACTIVE) or measured is None or not self.filter.seeded:
            self._faults, self._sending = (), False
            return self._told(None, None)
        verdict = self.filter.check(now_s, dt_s, self._wish(now_s), measured, image_age_s, others)
        self._judge(verdict)
        still = not verdict.command.velocity.any()
        if self.state is State.SOFT_STOP and still and self.standing():
            self._happen(Event.STANDING, "standing")
        if self._source is not None and self.state is State.ACTIVE:
            self._source.sent(now_s, verdict.command)
        latched = self.state in LATCHED and not self._sending  # who was silent stays so
        done = self.state is State.ESTOP and still and self._sunk()
        self._sending = not (latched or done or self.state is State.INACTIVE)
        return self._told(verdict.command if self._sending else None, verdict)

    def _wish(self, now_s: float) -> Wish | None:
        """What the source asks for."""
        if self.state is not State.ACTIVE or self._source is None:
            return None
        self.filter.lease.heartbeat(self._source.name, self._source.heard_s(now_s))
        setpoint = self._source.setpoint(now_s)
        if setpoint.phase == "starved":
            self._latch(Event.VIOLATION, f"no actions of {self._source.name} for {self._profile.safety.starvation_s} s")
        if (silence_s := self.filter.lease.silence_s(now_s)) > self._profile.safety.heartbeat_timeout_s:
            self._happen(Event.RELEASE, f"{self._source.name} is silent for {silence_s:.2f} s")
        if setpoint.position is None or self.state is not State.ACTIVE:
            return None
        self._sequence += 1
        names = self._profile.names
        return Wish(names, setpoint.position, setpoint.velocity, self._source.name, self._sequence, setpoint.age_s)

    def _judge(self, verdict: Verdict) -> None:
        self._faults = verdict.faults
        if verdict.faults:
            self._latch(Event.VIOLATION, "; ".join(map(_sentence, verdict.faults)))
        elif verdict.refused:
            self._happen(Event.RELEASE, f"refused: {'; '.join(map(_sentence, verdict.refused))}")

    def _listen(self, operators: Operators) -> None:
        if self._stopped_by_people():
            self._latch(Event.ESTOP, "the e-stop is pressed" if operators.estop_pressed else "the e-stop fell silent")
        if self.state in MOVING and self._deadman_required and not operators.deadman_held:
            self._happen(Event.RELEASE, "the dead-man switch was released")

    def _checks(self) -> list[str]:
        """What hinders arming."""
        found = []
        if self._source is None:
            found.append("no source is selected")
        if self._profile.safety.estop_required and not self._operators.estop_live:
            found.append("no e-stop is heard")
        if self._deadman_required and not self._operators.deadman_held:
            found.append("the dead-man switch is not held")
        if self._measured is None or not self._fresh(self._measured):
            found.append("measurements are stale")
        elif not self.standing():
            found.append("the robot moves")
        return found

    def _stopped_by_people(self) -> bool:
        return self._operators.estop_pressed or self._operators.estop_lost

    def _fresh(self, measured: Measurement) -> bool:
        return self._now_s - measured.received_s <= self._profile.ages.state_s

    def standing(self) -> bool:
        """Whether joints are measured to rest, all of them."""
        return self._measured is not None and bool(np.all(np.abs(self._measured.velocity) <= STANDING * self._velocity))

    def _sunk(self) -> bool:
        """Whether an e-stop needs no more commands: a damped robot goes on moving after they have come to rest."""
        if self._profile.safety.stop_mode == "hold":
            return True
        return self.standing() and self._now_s - self._latched_s >= SINKING_S

    def _latch(self, event: Event, cause: str) -> None:
        before = self.state
        self._happen(event, cause)
        if self.state is not before and self.state in LATCHED:
            self.cause, self._latched_s = cause, self._now_s

    def _happen(self, event: Event, why: str) -> None:
        before = self.state
        self._machine, actions = self._machine.after(event)
        self._do(actions)
        if self.state is not before:
            self._events.append(f"{before} → {self.state}: {why}")

    def _do(self, actions: Sequence[Action]) -> None:
        if Action.FORGET in actions:
            self.filter.lease.forget()
            if self._source is not None:
                self._source.forget()
        if Action.SEED in actions and self._measured is not None:
            self.filter.seed(self._measured)
        if Action.BEGIN in actions:
            self._begin()

    def _begin(self) -> None:
        assert self._source is not None  # arming and select see to it
        self.filter.lease.grant(self._source.name, self._now_s)
        self._sequence = 0
        self._source.begin(self._now_s, self.filter.last)

    def _because(self) -> str:
        return f": {self.cause}" if self.cause else ""

    def _told(self, command: Motion | None, verdict: Verdict | None) -> Tick:
        damped = self.state in LATCHED and self._profile.safety.stop_mode == "damping"
        events, self._events = tuple(self._events), []
        return Tick(self.state, command, damped, events, verdict)


def _sentence(found: Intervention) -> str:
    return f"{found.code} of {found.where} ({found.magnitude:.4g})"
