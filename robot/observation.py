"""What a robot shows a policy, from stamped samples, as in training: on line when it commands, and for what is recorded.

J joints, units of the profile
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from policies.bundle import Bundle
from policies.interface import Entry, UserError
from robot.profile import RobotProfile

NS_PER_S = 1_000_000_000
Sample = tuple[int, np.ndarray]
"""A stamp [ns], and what was true then."""


class CommanderError(UserError):
    """A policy does not fit the robot."""


@dataclass(frozen=True)
class StateEntry:
    """How a state entry is read: where each component is among the joints, and what 0 and 1 of it are in the joint's unit."""

    columns: np.ndarray
    closed: np.ndarray
    opened: np.ndarray
    error: np.ndarray
    """bool: the commanded less the measured position, instead of the measured one."""

    def value(self, position: np.ndarray, commanded: np.ndarray) -> np.ndarray:
        """float32, from positions `(J,)`; errors are taken in float32, as in training."""
        measured, asked = (
            ((found[self.columns] - self.closed) / (self.opened - self.closed)).astype(np.float32) for found in (position, commanded)
        )
        return np.where(self.error, asked - measured, measured)


def state_entry(entry: Entry, profile: RobotProfile) -> StateEntry:
    """How a state entry is read. Raises `CommanderError` for a component that the robot does not measure."""
    columns, ends, errors = [], [], []
    for component in entry.names:
        name, _, unit = component.removesuffix("]").partition(" [")
        errors.append(name not in profile.names and name.removesuffix("_error") in profile.names)
        name = name.removesuffix("_error") if errors[-1] else name
        grippers = [gripper for gripper in profile.grippers if name in ("gripper_opening", f"{gripper.joint}_opening")]
        if len(grippers) == 1:
            columns.append(profile.names.index(grippers[0].joint))
            ends.append((grippers[0].closed, grippers[0].open))
            continue
        if name not in profile.names:
            raise CommanderError(f"the policy's '{entry.name}' has {component}; {profile.name} measures {', '.join(profile.names)}")
        joint = profile.joints[profile.names.index(name)]
        if (unit or "1") != joint.unit:
            raise CommanderError(f"the policy sees {name} in {unit or '1'}, {profile.name} measures it in {joint.unit}")
        columns.append(profile.names.index(name))
        ends.append((0.0, 1.0))
    closed, opened = np.array(ends).T
    return StateEntry(np.array(columns), closed, opened, np.array(errors))


def require_shown(bundle: Bundle, profile: RobotProfile) -> None:
    """Raise `CommanderError` unless the robot shows all that the policy sees, and takes commands as often as it decides."""
    for entry in bundle.spec.entries:
        if entry.kind not in ("image", "state", "text"):
            raise CommanderError(f"the policy sees '{entry.name}' ({entry.kind}), which {profile.name} does not publish")
        if entry.kind == "image" and entry.frame not in profile.topics.images:
            known = ", ".join(profile.topics.images) or "none"
            raise CommanderError(f"the policy sees camera '{entry.frame}'; the profile of {profile.name} has {known} in topics.images")
    for term in bundle.observations:
        if term.history != 1:
            raise CommanderError(f"the policy sees {term.history} observations of '{term.name}' at once; only 1 is implemented")
    if bundle.spec.control_hz > profile.rates.command_hz:
        raise CommanderError(
            f"the policy acts at {bundle.spec.control_hz:g} Hz, {profile.name} takes commands at {profile.rates.command_hz:g} Hz"
        )
    if not math.isclose(NS_PER_S / bundle.spec.control_hz, round(NS_PER_S / bundle.spec.control_hz), abs_tol=1e-3):
        raise CommanderError(f"a control rate of {bundle.spec.control_hz} Hz is no whole number of nanoseconds; stamps would drift")


def at_or_before(samples: Sequence[Sample], time_ns: int) -> np.ndarray | None:
    """The newest of samples in order of time that is no newer than a time; `None` if there is none."""
    return next((value for stamp_ns, value in reversed(samples) if stamp_ns <= time_ns), None)


def between(samples: Sequence[Sample], time_ns: int) -> np.ndarray:
    """Positions at a time that lies among samples, on the straight line between the two around it; a sample of that time as it is."""
    after = next(i for i, (stamp_ns, _) in enumerate(samples) if stamp_ns >= time_ns)
    end_ns, end = samples[after]
    if end_ns == time_ns:
        return end
    start_ns, start = samples[after - 1]
    share = (time_ns - start_ns) / (end_ns - start_ns)
    return (1 - share) * start + share * end
