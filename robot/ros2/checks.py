"""What must hold before the bridge arms. Every reason is a sentence for the operator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from robot.profile import RobotProfile
from robot.ros2.operators import Operators

SLOWEST = 0.5
"""Share of the profile's state rate that must be measured."""


@dataclass(frozen=True)
class Situation:
    """What the bridge knows when somebody asks it to arm."""

    operators: Operators
    conflicts: Sequence[str]
    """Others that command this robot."""
    problems: Sequence[str]
    """What the graph lacks."""
    state_hz: float
    """Measured."""
    state_age_s: float
    deadman_required: bool
    lockstep: bool
    """Whether time is the simulator's, so that rates by the wall clock mean nothing."""


def refusals(profile: RobotProfile, now: Situation) -> list[str]:
    """Why the robot must not be armed; empty if it may."""
    found = [*now.conflicts, *now.problems]
    if now.operators.estop_pressed:
        found.append("the e-stop is pressed")
    if profile.safety.estop_required and not now.operators.estop_live:
        found.append("no e-stop source is heard on ~/estop, and the profile requires one (safety.estop_required)")
    if now.deadman_required and not now.operators.deadman_held:
        found.append("the dead-man switch on ~/deadman is not held")
    if not now.operators.heartbeat:
        found.append("no commander sends heartbeats on ~/heartbeat")
    if now.state_age_s > profile.ages.state_s:
        found.append(f"joint states are {now.state_age_s:.3f} s old, {profile.ages.state_s} s are allowed")
    if not now.lockstep and now.state_hz < SLOWEST * profile.rates.state_hz:
        found.append(f"joint states come at {now.state_hz:.1f} Hz, the profile says {profile.rates.state_hz:g} Hz")
    return found
