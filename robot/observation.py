"""What a robot shows a policy, from stamped samples, as in training: on line when it commands, and for what is recorded.

J joints, units of the profile
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from policies.bundle import Bundle
from policies.images import Crop, Pinhole, matching_crop, prepare_image
from policies.interface import Entry, SpecError, UserError
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


@dataclass(frozen=True)
class ImageEntry:
    """How an image entry is made of what a robot's camera shows."""

    camera: str
    size: tuple[int, int]
    """(height, width) that the policy was trained on [pixel]."""
    lens: Pinhole | None = None
    """The robot's camera, where it and the one of training are calibrated."""
    crop: Crop | None = None
    """What the policy was trained to see of it."""

    def value(self, image: np.ndarray) -> np.ndarray:
        """`(H, W, 3)` uint8 of the policy's size, from the camera's.

        Raises:
            CommanderError: the image is not of the calibrated size, or of another than the policy's and the camera is not calibrated.
        """
        if self.lens is None and image.shape[:2] != self.size:
            raise CommanderError(
                f"camera '{self.camera}' shows {image.shape[:2]} pixels (height, width), the policy was trained on {self.size}; "
                "calibrate it with `vla-rl calibrate`, so that its images can be cropped and resized to what the policy saw"
            )
        try:
            return prepare_image(image, *self.size, self.lens, self.crop)
        except SpecError as error:
            raise CommanderError(f"camera '{self.camera}': {error}") from error


def image_entries(bundle: Bundle, profile: RobotProfile) -> dict[str, ImageEntry]:
    """By camera. Raises `CommanderError` for a camera whose view is too narrow."""
    found = {}
    for entry, term in zip(bundle.spec.entries, bundle.observations, strict=True):
        if entry.kind != "image":
            continue
        size, lens = (entry.shape[0], entry.shape[1]), profile.cameras.get(entry.frame)
        if lens is None or term.camera is None:
            found[entry.frame] = ImageEntry(entry.frame, size)
            continue
        try:
            found[entry.frame] = ImageEntry(entry.frame, size, lens, matching_crop(lens, term.camera))
        except SpecError as error:
            raise CommanderError(f"camera '{entry.frame}' of {profile.name}: {error}") from error
    return found


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
