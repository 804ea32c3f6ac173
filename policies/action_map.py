"""From a policy's actions to targets of joints, gripper or tool: one term per action dimension. NumPy only, float32.

    move   = scale · clip(action, action range) + offset
    target = clip(move, low, high)                 absolute
    target = clip(last target + move, low, high)   delta of the last commanded target, never of a measurement

The arithmetic is float32 in this order, as in the simulator that the policy was trained in, bit by bit.

K chunk steps · A action dimensions
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from policies.interface import ActionSpec


class ActionTerm(BaseModel):
    """What one action dimension does."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """The action dimension, as in the spec."""
    space: Literal["joint", "gripper", "tool"]
    """What is commanded: an arm joint, the opening of the gripper, or a coordinate of the tool in the base frame."""
    target: str
    """Name of the joint, gripper or tool coordinate."""
    kind: Literal["absolute", "delta"]
    unit: str
    """Of the target: rad, m, or 1 for a gripper's opening from closed (0) to open (1)."""
    scale: float
    offset: float = 0.0
    low: float | None = None
    """Lower end of the target, in `unit`; not clipped if `None`."""
    high: float | None = None

    @property
    def clip(self) -> tuple[float, float]:
        """Ends of the target; infinite where it is not clipped."""
        return -np.inf if self.low is None else self.low, np.inf if self.high is None else self.high


def map_actions(terms: Sequence[ActionTerm], action: ActionSpec, chunk: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Targets of a chunk of actions.

    Args:
        terms: A terms, in the order of the actions.
        action: names and ranges of the actions.
        chunk: `(K, A)` float32 actions.
        last: `(A,)` float32, each target as it was last commanded.

    Returns:
        `(K, A)` float32, in the units of the terms.
    """
    low, high = np.array([term.clip for term in terms], np.float32).T
    scale, offset = (np.array([getattr(term, name) for term in terms], np.float32) for name in ("scale", "offset"))
    delta = np.array([term.kind == "delta" for term in terms])
    clipped = np.clip(chunk, np.array(action.low, np.float32), np.array(action.high, np.float32))
    targets = np.empty_like(clipped)
    for k, move in enumerate(scale * clipped + offset):
        last = targets[k] = np.clip(np.where(delta, last + move, move), low, high)
    return targets
