"""A scripted expert for LIBERO's pick-and-place tasks: grasp from above, carry over the container, let go.

It looks at nothing but the present state, so that it can go on from any.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

REACH_M, TURN_RAD = 0.05, 0.5
"""How far the hand's goal lies ahead, and is turned, at an action of 1."""
NEAR_M = 0.015
"""Horizontal distance from which the hand goes down."""
OVER_M = 0.03
"""Horizontal distance to the middle of the container from which the hand opens."""
CLEAR_M = 0.12
"""Height above the object at which the hand approaches."""
CARRY_M = 0.28
"""Height of the hand over the floor while it carries."""
OPEN, CLOSE = -1.0, 1.0


class Seen(NamedTuple):
    """What the expert goes by, in the world frame."""

    hand: np.ndarray
    """`(3,)` point between the finger tips [m]."""
    tilt: np.ndarray
    """`(3,)` rotation vector from the hand as it is to one that points down [rad]."""
    thing: np.ndarray
    """`(3,)` where to grasp the object [m]."""
    container: np.ndarray
    """`(3,)` its middle [m]."""
    touched: bool
    """Both fingers touch the object."""
    pressed: bool
    """They have had time to close."""
    solved: bool


def act(seen: Seen) -> np.ndarray:
    """The action `(7,)` float32: the hand's displacement and rotation, and its gripper, each within [-1, 1]."""
    target, gripper = _plan(seen)
    step = np.concatenate([(target - seen.hand) / REACH_M, seen.tilt / TURN_RAD, [gripper]])
    return np.clip(step, -1.0, 1.0).astype(np.float32)


def _plan(seen: Seen) -> tuple[np.ndarray, float]:
    """Where the hand goes, and whether it is open."""
    hand, thing, container = seen.hand, seen.thing, seen.container
    if seen.solved:
        return np.array([*hand[:2], CARRY_M]), OPEN
    if seen.touched and np.linalg.norm(hand[:2] - container[:2]) < OVER_M:
        return hand, OPEN
    if not seen.touched and hand[2] < CARRY_M - 0.03 and np.linalg.norm(thing[:2] - container[:2]) < 2 * OVER_M:
        return np.array([*hand[:2], CARRY_M]), OPEN  # let it fall
    if seen.touched and seen.pressed:
        if hand[2] < CARRY_M - 0.03:
            return np.array([*hand[:2], CARRY_M]), CLOSE
        return np.array([*container[:2], CARRY_M]), CLOSE
    if np.linalg.norm(hand[:2] - thing[:2]) > NEAR_M:
        return np.array([*thing[:2], max(thing[2] + CLEAR_M, min(hand[2], CARRY_M))]), OPEN
    return thing, CLOSE if seen.touched or hand[2] < thing[2] + 0.01 else OPEN
