"""Unitree's low-level messages: the checksum against one by the book, the layout against C's, gains and modes."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs the ros extra: pip install 'vla-rl[ros]'")

from robot.ros2.low_level import COMMAND, checksum

pytestmark = pytest.mark.ros


def by_the_book(words: bytes) -> int:
    """Polynomial division, bit by bit."""
    rest = 0xFFFFFFFF
    for word in np.frombuffer(words, "<u4").tolist():
        for bit in range(31, -1, -1):
            rest = (rest << 1) ^ (0x04C11DB7 if rest >> 31 else 0)
            rest = (rest ^ (0x04C11DB7 if word >> bit & 1 else 0)) & 0xFFFFFFFF
    return rest


def test_the_checksum() -> None:
    random = np.random.default_rng(0).bytes(1000)
    assert by_the_book(random) == checksum(random)
    assert checksum(bytes(4)) == by_the_book(bytes(4)) == 0xC704DD7B, "published for four bytes of zero"


class Motor(ctypes.Structure):
    _fields_ = (
        ("mode", ctypes.c_uint8),
        *((name, ctypes.c_float) for name in ("q", "dq", "tau", "kp", "kd")),
        ("reserve", ctypes.c_uint32),
    )


class Command(ctypes.Structure):
    _fields_ = (
        ("mode_pr", ctypes.c_uint8),
        ("mode_machine", ctypes.c_uint8),
        ("motor_cmd", Motor * 35),
        ("reserve", ctypes.c_uint32 * 4),
        ("crc", ctypes.c_uint32),
    )


def test_the_layout_is_cs() -> None:
    """The robot computes the checksum over the structure in its memory."""
    numbers = list(range(1, 1 + 2 + 7 * 35 + 4))
    command = Command(numbers[0], numbers[1], reserve=(ctypes.c_uint32 * 4)(*numbers[-4:]))
    for i, motor in enumerate(command.motor_cmd):
        values = numbers[2 + 7 * i : 9 + 7 * i]
        for (name, _), value in zip(Motor._fields_, [values[0] % 256, *values[1:]], strict=True):
            setattr(motor, name, value)
    motors = [value % 256 if i % 7 == 0 else value for i, value in enumerate(numbers[2:-4])]
    assert ctypes.sizeof(Command) == 1004
    assert COMMAND.pack(1, 2, *motors, *numbers[-4:]) == bytes(command)[:1000]
