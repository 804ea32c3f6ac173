"""The task `hands`: bring each hand to a spot that the instruction names, standing.

Spots are fixed to the pelvis (x forward, y to the left, z up), so that joints and words say everything: no camera is needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sim.humanoid.body import ARMS_HOME, Body
from sim.humanoid.g1 import ARM_DOF, ARM_JOINTS

CLOSE = 0.05
"""Largest distance of a hand from its spot [m]."""
STEP = 0.03
"""[rad] that an arm joint's target moves at action 1: 1.5 rad/s."""
SPREAD = 0.1
"""Half the range of where arm joints start around home [rad]."""
SPOTS = {
    "high in front": (0.25, 0.2, 0.45),
    "in front": (0.33, 0.2, 0.2),
    "low in front": (0.25, 0.2, -0.02),
    "high to the side": (0.05, 0.4, 0.48),
    "out to the side": (0.08, 0.47, 0.25),
    "low to the side": (0.08, 0.38, 0.0),
}
"""Of the left hand [m]; the right hand's are their mirror images."""
INSTRUCTIONS = (
    "left hand {left}, right hand {right}",
    "put the left hand {left} and the right hand {right}",
    "right hand {right}, left hand {left}",
)
HELD_OUT = ("hold your left hand {left} and your right one {right}", "bring the right hand {right} and the left hand {left}")
"""Phrasings never trained on."""

GAIN = 0.25
"""Share of the way to its spot that the expert moves a hand's target in a control step."""
FASTEST = 0.025
"""Longest step of a hand's target [m]."""
DAMPING = 0.08
"""λ of damped least squares."""
POSTURE = 0.1
"""Share of the way to `ELBOWS_OUT` that is taken per control step where it does not move the hand."""
ELBOWS_OUT = ARMS_HOME + np.array([joint.endswith("shoulder_roll_joint") for joint in ARM_JOINTS]) * np.sign(ARMS_HOME) * 0.2
"""Arm joints that keep the forearms off the torso [rad]."""


@dataclass(frozen=True)
class Start:
    """How an episode begins."""

    offset: np.ndarray
    """`(14,)` of the arms from home [rad]."""
    spots: tuple[str, str]
    """Of the left and of the right hand."""

    @classmethod
    def of(cls, seed: int) -> Start:
        """The start of a seed."""
        rng = np.random.default_rng([seed, 0])
        names = list(SPOTS)
        left, right = (names[int(i)] for i in rng.integers(len(names), size=2))
        return cls(rng.uniform(-SPREAD, SPREAD, len(ARMS_HOME)), (left, right))

    def instruction(self, seed: int, choices: tuple[str, ...]) -> str:
        """The phrasing of an episode's seed."""
        left, right = self.spots
        return choices[np.random.default_rng([seed, 1]).integers(len(choices))].format(left=left, right=right)

    @property
    def goal(self) -> np.ndarray:
        """`(2, 3)` where the hands are to be, in the pelvis' frame [m]."""
        left, right = (np.array(SPOTS[name]) for name in self.spots)
        return np.stack([left, right * (1, -1, 1)])


def distances(body: Body, goal: np.ndarray) -> np.ndarray:
    """`(2,)` of the hands from their spots [m]."""
    return np.linalg.norm(body.hands - goal, axis=1)


def success(body: Body, goal: np.ndarray) -> bool:
    """Whether both hands are where they should be, and the robot stands."""
    return bool(body.standing and distances(body, goal).max() < CLOSE)


def reward(body: Body, goal: np.ndarray) -> float:
    """About 0 to 1: nearness of both hands while standing."""
    return float((1 - np.tanh(distances(body, goal) / 0.2)).mean()) * body.standing


def follow(command: np.ndarray, action: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """The next targets of the arms `(14,)` float32 after an action `(14,)`; arithmetic in float32, as on a robot."""
    low, high = limits.T.astype(np.float32)
    return np.clip(command + np.float32(STEP) * action.astype(np.float32), low, high)


def expert(body: Body, goal: np.ndarray, command: np.ndarray) -> np.ndarray:
    """The action `(14,)` that brings the hands closer: damped least squares from where they are, added to what is commanded.

    What the arms sag is made up for since the hands' own distance is followed, not that of the command.
    """
    moves = []
    for side, (hand, spot, jacobian) in enumerate(zip(body.hands, goal, body.hand_jacobians(), strict=True)):
        way = GAIN * (spot - hand)
        way /= max(1.0, np.linalg.norm(way) / FASTEST)
        inverse = jacobian.T @ np.linalg.inv(jacobian @ jacobian.T + DAMPING**2 * np.eye(3))
        arm = slice(side * ARM_DOF, (side + 1) * ARM_DOF)
        free = np.eye(ARM_DOF) - inverse @ jacobian
        moves.append(inverse @ way + POSTURE * free @ (ELBOWS_OUT[arm] - command[arm]))
    return np.clip(np.concatenate(moves) / STEP, -1.0, 1.0).astype(np.float32)
