"""What the graph says against arming. Every reason is a sentence for the operator; the runtime has its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from robot.profile import RobotProfile

SLOWEST = 0.5
"""Share of the profile's state rate that must be measured."""


@dataclass(frozen=True)
class Situation:
    """What the bridge sees when somebody asks it to arm."""

    conflicts: Sequence[str]
    """Others that command this robot."""
    problems: Sequence[str]
    """What the graph lacks."""
    state_hz: float | None
    """Measured; `None` in lockstep, where rates by the wall clock mean nothing."""
    silence_s: float
    """Since the last sign of life of who commands."""


def refusals(profile: RobotProfile, now: Situation) -> list[str]:
    """Why the robot must not be armed; empty if it may."""
    found = [*now.conflicts, *now.problems]
    if now.silence_s > profile.safety.heartbeat_timeout_s:
        found.append("who commands is not heard: a policy on ~/heartbeat or ~/action_chunk, an operator who teleoperates on ~/jog")
    if now.state_hz is not None and now.state_hz < SLOWEST * profile.rates.state_hz:
        found.append(f"joint states come at {now.state_hz:.1f} Hz, the profile says {profile.rates.state_hz:g} Hz")
    return found
