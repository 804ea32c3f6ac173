"""The joints of the Unitree G1 and where they stand, and how often its arms are commanded. SI units."""

from __future__ import annotations

from sim.scene import PHYSICS_DT_S

CONTROL_STEPS = 4
"""Physics steps per control step: 50 Hz."""
CONTROL_HZ = 1 / (PHYSICS_DT_S * CONTROL_STEPS)
_LEG = ("hip_pitch", "hip_roll", "hip_yaw", "knee", "ankle_pitch", "ankle_roll")
_ARM = ("shoulder_pitch", "shoulder_roll", "shoulder_yaw", "elbow", "wrist_roll", "wrist_pitch", "wrist_yaw")
SIDES = ("left", "right")
BODY_JOINTS = (*(f"{side}_{part}_joint" for side in SIDES for part in _LEG), *(f"waist_{axis}_joint" for axis in ("yaw", "roll", "pitch")))
"""Legs and waist, which stand (`sim.humanoid.stance`)."""
ARM_JOINTS = tuple(f"{side}_{part}_joint" for side in SIDES for part in _ARM)
"""Both arms, in the order of policies and commands. All joints in this order are the motors of Unitree's LowCmd."""
ARM_DOF = len(_ARM)


HOME = {"hip_pitch": -0.1, "knee": 0.3, "ankle_pitch": -0.2, "shoulder_pitch": 0.2, "elbow": 0.6}
"""Where joints stand [rad], by part; 0 where nothing is said. Shoulders are rolled outwards."""
SHOULDER_ROLL = 0.3
"""[rad]; the right one's is the negative."""


def part(joint: str) -> str:
    """`left_hip_pitch_joint` → `hip_pitch`."""
    return joint.removesuffix("_joint").removeprefix("left_").removeprefix("right_")


def home(joints: tuple[str, ...]) -> tuple[float, ...]:
    """Where joints stand [rad]."""
    rolled = {"left_shoulder_roll_joint": SHOULDER_ROLL, "right_shoulder_roll_joint": -SHOULDER_ROLL}
    return tuple(rolled.get(joint, HOME.get(part(joint), 0.0)) for joint in joints)
