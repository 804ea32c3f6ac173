"""Low-level control of Unitree's humanoids: LowCmd with gains, mode and checksum out, LowState in.

The messages are those of the maker's ROS 2 package `unitree_hg`. Motor i of a message is joint i of the controller; motors beyond them stay
off. Torque is what the motors' drivers make of it, kp (q* - q) - kd q', the law that policies are trained with, so that no velocity is
asked for. The robot obeys only while its own motion service is released. Checked against the published messages and checksum, NOT on a
robot.

J joints of the controller
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from sensor_msgs.msg import JointState

from policies.interface import UserError
from robot.profile import Joint

MOTORS = 35
"""In a message, whatever the robot has."""
ENABLED = 1
"""Mode of a motor that obeys."""
SERIES = 0
"""Mode of the ankles and the waist: pitch and roll, not the motors of the linkage."""
COMMAND = struct.Struct("<2B2x" + MOTORS * "B3x5fI" + "4I")
"""LowCmd in the robot's memory, up to the checksum."""
MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class LowLevelError(UserError):
    """Other messages than Unitree's humanoids take, or a command before the robot has said in which mode it is."""


class LowLevel:
    """Reads and commands one robot. `decode` comes before `encode`: a command repeats the machine's mode that the robot states."""

    def __init__(self, topic: str, joints: Sequence[str], messages: tuple[type, type], profile: Mapping[str, Joint]) -> None:
        """Know the robot; nothing is sent.

        Args:
            topic: of commands.
            joints: in the order of the motors.
            messages: LowState and LowCmd.
            profile: joints by name; each has kp and kd, and damping_kd where it is to be damped.

        Raises:
            LowLevelError: the messages are of another robot, or have too few motors.
        """
        self.topic = topic
        self.state_type, self.message_type = messages
        state, command = self.state_type(), self.message_type()
        for message, motors in ((state, "motor_state"), (command, "motor_cmd")):
            if not hasattr(message, "mode_machine") or len(getattr(message, motors, ())) != MOTORS:
                raise LowLevelError(f"{type(message).__name__} is not Unitree's of humanoids: it lacks mode_machine, or {MOTORS} {motors}")
        if len(joints) > MOTORS:
            raise LowLevelError(f"a message has {MOTORS} motors, the profile {len(joints)} joints")
        self._joints = list(joints)
        self._stiff = [(profile[name].kp or 0.0, profile[name].kd or 0.0) for name in joints]
        self._damped = [(0.0, profile[name].damping_kd or 0.0) for name in joints]
        self._machine: int | None = None

    def decode(self, state: Any, arrived: Time) -> JointState:
        """Joint states of a LowState, whose stamp is when it arrived: it carries none."""
        self._machine = state.mode_machine
        motors = state.motor_state[: len(self._joints)]
        message = JointState(name=self._joints)
        message.header.stamp = arrived
        message.position, message.velocity = [motor.q for motor in motors], [motor.dq for motor in motors]
        message.effort = [motor.tau_est for motor in motors]
        return message

    def encode(self, position: np.ndarray, velocity: np.ndarray, damped: bool) -> Any:
        """LowCmd towards `(J,)` [rad]; `damped` gives stiffness up.

        Raises:
            LowLevelError: no state was decoded yet.
        """
        del velocity
        if self._machine is None:
            raise LowLevelError("no state of the robot has been read, so that the mode of its machine is not known")
        command = self.message_type()
        command.mode_pr, command.mode_machine = SERIES, self._machine
        for motor, target, (kp, kd) in zip(command.motor_cmd, position.tolist(), self._damped if damped else self._stiff, strict=False):
            motor.mode, motor.q, motor.kp, motor.kd = ENABLED, target, kp, kd
        command.crc = checksum(packed(command))
        return command


def packed(command: Any) -> bytes:
    """What the checksum of a LowCmd is over, 1000 bytes."""
    motors = [(motor.mode, motor.q, motor.dq, motor.tau, motor.kp, motor.kd, motor.reserve) for motor in command.motor_cmd]
    numbers = [number for motor in motors for number in motor]
    return COMMAND.pack(command.mode_pr, command.mode_machine, *numbers, *(int(word) for word in command.reserve))


def checksum(words: bytes) -> int:
    """Of little-endian words of 32 bits, each from its most significant bit: the CRC with polynomial 0x04c11db7 that starts from ones.

    zlib's is the same of mirrored bits, mirrored and inverted.
    """
    from_the_most_significant = np.frombuffer(words, "<u4").byteswap().tobytes()
    mirrored = zlib.crc32(from_the_most_significant.translate(MIRRORED)) ^ 0xFFFFFFFF
    return int(f"{mirrored:032b}"[::-1], 2)
