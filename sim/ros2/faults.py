"""Faults of a robot's sensors, to be switched on while it runs.

C commanded coordinates
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

STATE_FAULTS = (
    "none", "stop", "freeze", "partial", "reordered", "no_velocity", "nan", "spike", "degrees", "stamp_zero", "stamp_future", "stamp_back",
)  # fmt: skip
CAMERA_FAULTS = ("none", "stop", "freeze", "black", "half_rate", "size_change")
COMMAND_FAULTS = ("none", "refuse", "ignore", "abort")
SPIKE_RAD = 1.5
"""How far off one joint is in the `spike` fault."""


STAMP_NS = 1_000_000_000
"""How far off the robot's clock is in `stamp_future` and `stamp_back`."""


@dataclass(frozen=True)
class JointMessage:
    """What a JointState message says."""

    names: tuple[str, ...]
    position: np.ndarray
    velocity: np.ndarray
    effort: np.ndarray


def disturb_state(fault: str, true: JointMessage, last: JointMessage | None, count: int) -> JointMessage | None:
    """What is published in place of `true`; `None` is nothing.

    Args:
        fault: one of `STATE_FAULTS`.
        true: what the sensors say.
        last: what was published last.
        count: of state messages so far; `spike` hits every tenth.
    """
    match fault:
        case "stop":
            return None
        case "freeze":
            return last or true
        case "partial":
            return JointMessage(true.names[:-2], true.position[:-2], true.velocity[:-2], true.effort[:-2])
        case "reordered":
            return JointMessage(true.names[::-1], true.position[::-1], true.velocity[::-1], true.effort[::-1])
        case "no_velocity":
            return replace(true, velocity=np.empty(0), effort=np.empty(0))
        case "nan":
            return replace(true, position=_changed(true.position, float("nan")))
        case "spike":
            return replace(true, position=_changed(true.position, true.position[0] + SPIKE_RAD)) if count % 10 == 0 else true
        case "degrees":
            return replace(true, position=np.rad2deg(true.position), velocity=np.rad2deg(true.velocity))
    return true


def disturb_stamp(fault: str, now_ns: int) -> int:
    """When a state message says that it was taken [ns]."""
    match fault:
        case "stamp_zero":
            return 0
        case "stamp_future":
            return now_ns + STAMP_NS
        case "stamp_back":
            return now_ns - STAMP_NS
    return now_ns


def disturb_image(fault: str, true: np.ndarray, last: np.ndarray | None, count: int) -> np.ndarray | None:
    """What a camera publishes in place of `true` `(H, W, 3)`; `None` is nothing. Arguments as of `disturb_state`."""
    match fault:
        case "stop":
            return None
        case "freeze":
            return true if last is None else last
        case "black":
            return np.zeros_like(true)
        case "half_rate":
            return true if count % 2 == 0 else None
        case "size_change":
            return np.ascontiguousarray(true[::2, ::2])
    return true


def _changed(position: np.ndarray, value: float) -> np.ndarray:
    changed = position.copy()
    changed[0] = value
    return changed
