"""What an operator asks for, whatever is in his hands.

    keyboard   single keys of a terminal, which tell when they are pressed but not when they are let go: a key moves for `KEY_S`, and
               goes on where the terminal repeats it
    gamepad    sensor_msgs/Joy as ROS's `joy` node publishes it for a pad with two sticks (Xbox layout)

J joints
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

KEY_S = 0.15
"""How long a key moves the robot."""
PAD_AXES = (1, 0, 4, 3)
"""Of a gamepad: forward, left, up, turn."""
CLOSE, OPEN, HELD = 0, 1, 4
"""Buttons of a gamepad: A and B for the gripper, the left shoulder button as dead-man switch."""
DEAD = 0.08
"""Share of a stick's way that means nothing."""


@dataclass(frozen=True)
class Wish:
    """A motion, as shares of its full speed in [-1, 1]."""

    move: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Of the tool along the base's x, y and z."""
    turn: float = 0.0
    """Of the tool about the base's z."""
    gripper: float = 0.0
    """Opening."""
    joint: int | None = None
    """One joint by its place, in place of the tool."""
    joint_share: float = 0.0


STILL = Wish()
KEYS = {
    "i": Wish(move=(1, 0, 0)), "k": Wish(move=(-1, 0, 0)), "j": Wish(move=(0, 1, 0)), "l": Wish(move=(0, -1, 0)),
    "u": Wish(move=(0, 0, 1)), "o": Wish(move=(0, 0, -1)), ",": Wish(turn=1), ".": Wish(turn=-1),
    "v": Wish(gripper=1), "c": Wish(gripper=-1),
}  # fmt: skip
HELP = "i k forward, back · j l left, right · u o up, down · , . turn · v c open, close · 1…9 a joint, + - move it"


class Keyboard:
    """The last key that moves, as long as it counts."""

    def __init__(self) -> None:
        self._wish, self._until_s = STILL, -np.inf
        self._joint: int | None = None

    def press(self, key: str, now_s: float) -> bool:
        """Whether the key is one that moves, or chooses a joint to be moved."""
        if key and key in "123456789":
            self._joint = int(key) - 1
            return True
        if key in KEYS:
            self._wish = KEYS[key]
        elif key and key in "+=-" and self._joint is not None:
            self._wish = Wish(joint=self._joint, joint_share=-1.0 if key == "-" else 1.0)
        else:
            return False
        self._until_s = now_s + KEY_S
        return True

    def wish(self, now_s: float) -> Wish:
        """What is asked for now."""
        return self._wish if now_s <= self._until_s else STILL


def pad_wish(axes: Sequence[float], buttons: Sequence[int]) -> tuple[Wish, bool]:
    """What a gamepad asks for, and whether its dead-man switch is held. Raises `ValueError` for one with fewer axes or buttons."""
    if len(axes) <= max(PAD_AXES) or len(buttons) <= max(CLOSE, OPEN, HELD):
        needed = f"{max(PAD_AXES) + 1} axes and {max(CLOSE, OPEN, HELD) + 1} buttons"
        raise ValueError(f"a gamepad needs {needed}, this one has {len(axes)} and {len(buttons)}")
    forward, left, up, turn = (_beyond_dead(axes[i]) for i in PAD_AXES)
    gripper = float(buttons[OPEN] > 0) - float(buttons[CLOSE] > 0)
    return Wish((forward, left, up), turn, gripper), bool(buttons[HELD])


def _beyond_dead(share: float) -> float:
    """A stick's share, from 0 where it leaves the middle."""
    return float(np.sign(share) * max(abs(share) - DEAD, 0.0) / (1 - DEAD))
