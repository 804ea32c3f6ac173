"""Unitree's messages for low-level control, of its ROS 2 package unitree_hg, built for the tests that need them."""

from __future__ import annotations

from pathlib import Path

from robot.ros2.build_messages import build

MESSAGES = {
    "IMUState": "float32[4] quaternion|float32[3] gyroscope|float32[3] accelerometer|float32[3] rpy|int16 temperature",
    "MotorCmd": "uint8 mode|float32 q|float32 dq|float32 tau|float32 kp|float32 kd|uint32 reserve",
    "MotorState": "uint8 mode|float32 q|float32 dq|float32 ddq|float32 tau_est|int16[2] temperature|float32 vol|uint32[2] sensor"
    "|uint32 motorstate|uint32[4] reserve",
    "LowCmd": "uint8 mode_pr|uint8 mode_machine|MotorCmd[35] motor_cmd|uint32[4] reserve|uint32 crc",
    "LowState": "uint32[2] version|uint8 mode_pr|uint8 mode_machine|uint32 tick|IMUState imu_state|MotorState[35] motor_state"
    "|uint8[40] wireless_remote|uint32[4] reserve|uint32 crc",
}
"""Fields by message, as published."""


def built(folder: Path) -> Path:
    """The folder to put on PYTHONPATH."""
    (folder / "unitree_hg" / "msg").mkdir(parents=True)
    for name, fields in MESSAGES.items():
        (folder / "unitree_hg" / "msg" / f"{name}.msg").write_text(fields.replace("|", "\n"))
    return build(folder / "unitree_hg", folder / "built").parent
