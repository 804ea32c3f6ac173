"""How the G1 stands while its arms move and it is pushed: legs and waist hold a pose, the ankles answer to the tilt.

On the robot this is the part of its own controller that keeps the legs while a program commands the arms.
"""

from __future__ import annotations

import numpy as np

from sim.humanoid.g1 import BODY_JOINTS, home

TILT = 0.6
"""Ankle target per tilt of the pelvis [rad/rad]."""
RATE = 0.06
"""Ankle target per angular velocity of the pelvis [rad/(rad/s)]."""
STANDING = np.array(home(BODY_JOINTS))
PITCH = np.array([joint.endswith("ankle_pitch_joint") for joint in BODY_JOINTS], float)
ROLL = np.array([joint.endswith("ankle_roll_joint") for joint in BODY_JOINTS], float)


def targets(down: np.ndarray, rate: np.ndarray) -> np.ndarray:
    """Targets of legs and waist `(15,)` [rad]: q = home + k_tilt · tilt + k_rate · ω, in the ankles alone.

    Args:
        down: `(3,)` unit vector of gravity in the pelvis' frame, x forward, y to the left.
        rate: `(3,)` angular velocity in that frame [rad/s].
    """
    forward, right = np.arctan2(down[0], -down[2]), np.arctan2(-down[1], -down[2])
    return STANDING + PITCH * (TILT * forward + RATE * rate[1]) + ROLL * (TILT * right + RATE * rate[0])
