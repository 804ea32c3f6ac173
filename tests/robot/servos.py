"""Six Feetech STS3215 servos on a serial line, as the SO-101 has them: what LeRobot's real bus talks to in tests.

A pseudo-terminal is the line. Packets as in Feetech's protocol 0: 0xFF 0xFF, id, length, instruction or error, parameters, checksum.
"""

from __future__ import annotations

import json
import os
import select
import threading
import time
import tty
from pathlib import Path

MODEL = 777
TICKS = 4096
"""Of a turn."""
SPEED = 3000.0
"""Of a servo without a load [ticks/s], about 4.6 rad/s."""
RANGE = (1024, 3072)
"""Calibrated range of every joint in these tests [ticks]; its middle is 0 rad, its lower end the closed gripper."""
NAMES = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")

PING, READ, WRITE, SYNC_READ, SYNC_WRITE = 1, 2, 3, 0x82, 0x83
MIN_LIMIT, MAX_LIMIT, TORQUE, GOAL, PRESENT = 9, 11, 40, 42, 56


class Servo:
    """Registers, and a horn that goes to its goal while torque is on."""

    def __init__(self, position: int) -> None:
        self.memory = bytearray(128)
        self.position = float(position)
        self.error = 0
        """In every reply; 0x20 is overload."""
        self.deaf = 0
        """So many packets to it are lost."""
        self._moved_s = time.monotonic()
        self.put(0, 3)
        self.put(3, MODEL, 2)
        self.put(GOAL, position, 2)
        for address, value in ((MIN_LIMIT, RANGE[0]), (MAX_LIMIT, RANGE[1])):
            self.put(address, value, 2)

    def put(self, address: int, value: int, length: int = 1) -> None:
        self.memory[address : address + length] = value.to_bytes(length, "little")

    def word(self, address: int) -> int:
        return int.from_bytes(self.memory[address : address + 2], "little")

    @property
    def torque(self) -> bool:
        return bool(self.memory[TORQUE])

    @property
    def goal(self) -> int:
        return self.word(GOAL)

    def turn(self) -> None:
        """Let the time pass that has passed."""
        now_s = time.monotonic()
        step = SPEED * (now_s - self._moved_s)
        self._moved_s = now_s
        if self.torque:
            self.position += max(-step, min(step, self.goal - self.position))
        self.put(PRESENT, round(self.position), 2)


class Servos:
    """The line. `port` is what a driver opens."""

    def __init__(self, position: int = TICKS // 2) -> None:
        self.servos = {number: Servo(position) for number in range(1, 7)}
        self.silent = False
        """Whether power is off: nobody answers."""
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self.port = os.ttyname(self._slave)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __getitem__(self, name: str) -> Servo:
        return self.servos[1 + NAMES.index(name)]

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        for line in (self._master, self._slave):
            os.close(line)

    def _run(self) -> None:
        heard = bytearray()
        while not self._stop.is_set():
            for servo in self.servos.values():
                servo.turn()
            if not select.select([self._master], [], [], 0.01)[0]:
                continue
            heard += os.read(self._master, 4096)
            while len(heard) >= 6 and len(heard) >= 4 + heard[3]:
                assert heard[:2] == b"\xff\xff", f"not a packet: {heard.hex()}"
                packet = bytes(heard[: 4 + heard[3]])
                del heard[: len(packet)]
                assert packet[-1] == _checksum(packet[2:-1]), f"wrong checksum: {packet.hex()}"
                if not self.silent:
                    self._answer(packet[2], packet[4], packet[5:-1])

    def _answer(self, number: int, instruction: int, given: bytes) -> None:
        if instruction == SYNC_WRITE:
            address, length = given[0], given[1]
            for i in range(2, len(given), 1 + length):
                self.servos[given[i]].memory[address : address + length] = given[i + 1 : i + 1 + length]
        elif instruction == SYNC_READ:
            for each in given[2:]:
                if self.servos[each].deaf:
                    self.servos[each].deaf -= 1
                else:
                    self._reply(each, self.servos[each].memory[given[0] : given[0] + given[1]])
        elif number in self.servos:
            memory = self.servos[number].memory
            if instruction == WRITE:
                memory[given[0] : given[0] + len(given) - 1] = given[1:]
            self._reply(number, memory[given[0] : given[0] + given[1]] if instruction == READ else b"")

    def _reply(self, number: int, values: bytes) -> None:
        body = bytes([number, 2 + len(values), self.servos[number].error]) + bytes(values)
        os.write(self._master, b"\xff\xff" + body + bytes([_checksum(body)]))


def _checksum(body: bytes) -> int:
    return ~sum(body) & 0xFF


def write_calibration(home: Path, identity: str = "arm") -> Path:
    """The file that lerobot-calibrate would leave under LeRobot's home, for servos of these tests."""
    path = home / "calibration" / "robots" / "so_follower" / f"{identity}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    low, high = RANGE
    names = {name: {"id": i, "drive_mode": 0, "homing_offset": 0, "range_min": low, "range_max": high} for i, name in enumerate(NAMES, 1)}
    path.write_text(json.dumps(names))
    return path
