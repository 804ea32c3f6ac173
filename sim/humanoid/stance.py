"""How the G1 stands while its arms move and it is pushed: legs and waist hold a pose and answer to the tilt of the pelvis.

On the robot this is the part of its own controller that keeps the legs while a program commands the arms. The gains were found by a
random search in simulation for standing longest while both arms swing from spot to spot under pushes of up to 50 N, on training
seeds; episodes push with up to 30 N.
"""

from __future__ import annotations

import numpy as np

from sim.humanoid.g1 import BODY_JOINTS, home, part

PITCH = {"ankle_pitch": (1.5, 0.14), "hip_pitch": (-0.24, 0.04), "waist_pitch": (0.46, 0.04)}
"""By part: joint target per forward tilt of the pelvis [rad/rad], and per its angular velocity [rad/(rad/s)]."""
ROLL = {"ankle_roll": (0.1, 0.07), "hip_roll": (0.31, 0.04)}
"""Likewise for tilts to the right."""
WIDTH = 0.085
"""How far the legs are spread, each [rad]."""
LEAN = 0.024
"""Of the ankles, so that the middle of the feet carries the weight [rad]."""


def _gains(by_part: dict[str, tuple[float, float]]) -> np.ndarray:
    """`(2, 15)` per tilt and per angular velocity."""
    return np.array([by_part.get(part(joint), (0.0, 0.0)) for joint in BODY_JOINTS]).T


def _standing() -> np.ndarray:
    """`(15,)`; the ankles keep the feet flat when the legs are spread."""
    spread = {"left_hip_roll_joint": 1, "left_ankle_roll_joint": -1, "right_hip_roll_joint": -1, "right_ankle_roll_joint": 1}
    offsets = [WIDTH * spread.get(joint, 0) + LEAN * joint.endswith("ankle_pitch_joint") for joint in BODY_JOINTS]
    return np.array(home(BODY_JOINTS)) + offsets


STANDING = _standing()
"""`(15,)` where legs and waist stand when nothing is tilted [rad]."""
_PITCH, _ROLL = _gains(PITCH), _gains(ROLL)


def targets(down: np.ndarray, rate: np.ndarray) -> np.ndarray:
    """Targets of legs and waist `(..., 15)` [rad]: q = standing + k_tilt · tilt + k_rate · ω, about both horizontal axes.

    Args:
        down: `(..., 3)` unit vector of gravity in the pelvis' frame, x forward, y to the left.
        rate: `(..., 3)` angular velocity in that frame [rad/s].
    """
    x, y, z = (down[..., axis, None] for axis in range(3))
    forward, right = np.arctan2(x, -z), np.arctan2(-y, -z)
    return STANDING + _PITCH[0] * forward + _PITCH[1] * rate[..., 1, None] + _ROLL[0] * right + _ROLL[1] * rate[..., 0, None]
