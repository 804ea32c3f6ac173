"""The faults: how each is injected, and how the deployment is expected to end.

active    goes on moving            standby   stopped softly, arms again at once
fault, estop   latched              gone      the bridge is no longer there: the robot's own watchdog holds it
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from policies.interface import UserError

if TYPE_CHECKING:
    from robot.ros2.faults.cell import Cell

Inject = Callable[["Cell"], None]


@dataclass(frozen=True)
class Fault:
    """One fault."""

    group: str
    name: str
    inject: Inject
    ends: tuple[str, ...]
    """States that are right."""
    says: str = ""
    """What an event or the cause must say."""
    watch_s: float = 2.5
    """For how long it is watched; shorter where it has ended the motion before."""
    teleop: bool = False
    """The operator has taken over from the policy before."""


def _state(fault: str, cell: Cell) -> None:
    cell.operator.set_robot({"fault.state": fault})


def _camera(fault: str, cell: Cell) -> None:
    cell.operator.set_robot({"fault.camera": fault})


def _command(fault: str, cell: Cell) -> None:
    cell.operator.set_robot({"fault.command": fault})


def _chunks(fault: str, cell: Cell) -> None:
    cell.chunks(fault)


def _signal(process: str, number: signal.Signals, cell: Cell) -> None:
    cell.children[process].signal(number)


def _pause(process: str, seconds: float, cell: Cell) -> None:
    cell.children[process].signal(signal.SIGSTOP)
    time.sleep(seconds)
    cell.children[process].signal(signal.SIGCONT)


def _press(cell: Cell) -> None:
    cell.operator.pressed = True
    cell.operator.beat()


def _press_and_release(cell: Cell) -> None:
    _press(cell)
    time.sleep(0.2)
    cell.operator.pressed = False


def _silence_estop(cell: Cell) -> None:
    cell.operator.estop_speaks = False


def _release(cell: Cell) -> None:
    cell.operator.held = False
    cell.operator.beat()


def _bounce(cell: Cell) -> None:
    _release(cell)
    cell.operator.held = True
    cell.operator.beat()


def _silence_deadman(cell: Cell) -> None:
    cell.operator.deadman_speaks = False


def _jog(speed: float, cell: Cell) -> None:
    """Of the joint that the operator moves."""
    cell.operator.jog = dict.fromkeys(cell.operator.jog or (), speed)


def _jog_elsewhere(velocity: dict[str, float] | None, cell: Cell) -> None:
    cell.operator.jog = velocity


def _shake(speed: float, cell: Cell) -> None:
    """The other way with every message, for a second."""
    for i in range(20):
        _jog(speed * (-1) ** i, cell)
        cell.operator.beat()
        time.sleep(0.05)
    _jog(0.0, cell)


def _hand_back_and_forth(cell: Cell) -> None:
    for teleop in (False, True, False, True):
        cell.operator.hand_over(teleop)
        time.sleep(0.2)


def _hog(count: int, seconds: float, cell: Cell) -> None:
    """Processes that compute without end, for a time."""
    hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    time.sleep(seconds)
    for hog in hogs:
        hog.kill()
        hog.wait()


ACTIVE, SOFT, FAULT, ESTOP, GONE = ("active",), ("standby",), ("fault",), ("estop",), ("gone",)

FAULTS: tuple[Fault, ...] = (
    Fault("network", "every fifth chunk lost", partial(_chunks, "loss"), ACTIVE),
    Fault("network", "three chunks lost, none for 0.8 s", partial(_chunks, "burst"), ACTIVE),
    Fault("network", "chunks 0.4 s late", partial(_chunks, "late"), ACTIVE),
    Fault("network", "every chunk twice", partial(_chunks, "duplicate"), ACTIVE),
    Fault("network", "chunks in wrong order", partial(_chunks, "reorder"), ACTIVE),
    Fault("network", "chunks at ten times the rate", partial(_chunks, "flood"), ACTIVE),
    # A node that joins is announced to those that are there at once, or where that is lost three seconds later.
    Fault("network", "a second commander of the robot", lambda cell: cell.rival(), FAULT, "conflict", watch_s=8.0),
    Fault("time", "chunks stamped 2 s ago", partial(_chunks, "stale"), SOFT, "older"),
    Fault("time", "chunks stamped 5 s ahead", partial(_chunks, "future"), SOFT, "future"),
    Fault("time", "chunks stamped 0", partial(_chunks, "zero_stamp"), SOFT, "older"),
    Fault("time", "steps of uneven length", partial(_chunks, "uneven"), SOFT, "evenly"),
    Fault("time", "joint states stamped 0", partial(_state, "stamp_zero"), ACTIVE),
    Fault("time", "the robot's clock jumps 1 s ahead", partial(_state, "stamp_future"), ACTIVE),
    Fault("time", "the robot's clock jumps 1 s back", partial(_state, "stamp_back"), ACTIVE),
    Fault("joint states", "none come", partial(_state, "stop"), FAULT, "state_age"),
    Fault("joint states", "same values, new stamps", partial(_state, "freeze"), FAULT, "state_frozen"),
    Fault("joint states", "two joints missing", partial(_state, "partial"), FAULT, "state_age"),
    Fault("joint states", "other order", partial(_state, "reordered"), ACTIVE),
    Fault("joint states", "no velocities", partial(_state, "no_velocity"), ACTIVE),
    Fault("joint states", "NaN", partial(_state, "nan"), FAULT, "state_age"),
    Fault("joint states", "one joint 1.5 rad off, every tenth time", partial(_state, "spike"), FAULT, "not_following"),
    Fault("joint states", "degrees", partial(_state, "degrees"), FAULT),
    Fault("camera", "no images", partial(_camera, "stop"), SOFT, "image_age"),
    Fault("camera", "same image, new stamps", partial(_camera, "freeze"), SOFT, "image_frozen"),
    Fault("camera", "black", partial(_camera, "black"), SOFT, "image_frozen"),
    Fault("camera", "every second image lost", partial(_camera, "half_rate"), ACTIVE),
    Fault("command", "NaN in chunks", partial(_chunks, "nan"), SOFT, "nan"),
    Fault("command", "infinity in chunks", partial(_chunks, "inf"), SOFT, "inf"),
    Fault("command", "chunks of one step", partial(_chunks, "short"), SOFT, "two steps"),
    Fault("command", "steps of wrong length", partial(_chunks, "wrong_length"), SOFT, "every step needs"),
    Fault("command", "a joint missing", partial(_chunks, "missing_joint"), SOFT, "the robot commands"),
    Fault("command", "an unknown joint", partial(_chunks, "unknown_joint"), SOFT, "elbow"),
    Fault("command", "joints in other order", partial(_chunks, "other_order"), ACTIVE),
    Fault("command", "a jump of 1 rad", partial(_chunks, "huge_step"), ACTIVE),
    Fault("command", "steps that alternate by 0.2 rad", partial(_chunks, "alternating"), ACTIVE),
    Fault("command", "far beyond a joint's limit", partial(_chunks, "limit"), ("active", "fault"), watch_s=8.0),
    Fault("command", "down into the table", partial(_chunks, "table"), FAULT, "interventions", watch_s=12.0),
    Fault("policy", "takes 1 s for a chunk, once", partial(_chunks, "pause"), SOFT, "chunk_age"),
    Fault("policy", "hangs, its heartbeat lives", partial(_chunks, "silent"), SOFT, "chunk_age"),
    Fault("policy", "paused for 0.15 s", partial(_pause, "sweep", 0.15), ACTIVE),
    Fault("policy", "stopped (SIGSTOP)", partial(_signal, "sweep", signal.SIGSTOP), SOFT, "is silent"),
    Fault("policy", "stopped for 1 s, goes on", partial(_pause, "sweep", 1.0), SOFT, "is silent"),
    Fault("policy", "ends (SIGTERM)", partial(_signal, "sweep", signal.SIGTERM), SOFT, "is silent"),
    Fault("policy", "killed (SIGKILL)", partial(_signal, "sweep", signal.SIGKILL), SOFT, "is silent"),
    Fault("bridge", "ends (SIGTERM)", partial(_signal, "bridge", signal.SIGTERM), GONE),
    Fault("bridge", "killed (SIGKILL)", partial(_signal, "bridge", signal.SIGKILL), GONE),
    Fault("bridge", "stopped for 1 s, goes on", partial(_pause, "bridge", 1.0), ("fault", "estop"), "interval"),
    Fault("bridge", "paused for 0.02 s", partial(_pause, "bridge", 0.02), ACTIVE),
    Fault("robot", "refuses commands", partial(_command, "refuse"), FAULT, "not_following"),
    Fault("robot", "ignores commands", partial(_command, "ignore"), FAULT, "not_following"),
    Fault("robot", "aborts", partial(_command, "abort"), FAULT, "not_following"),
    Fault("robot", "its computer hangs for 1 s", partial(_pause, "robot", 1.0), FAULT, "state_age"),
    Fault("robot", "its computer dies", partial(_signal, "robot", signal.SIGKILL), FAULT, "state_age"),
    Fault("people", "e-stop pressed", _press, ESTOP, "pressed"),
    Fault("people", "e-stop pressed and released", _press_and_release, ESTOP, "pressed"),
    Fault("people", "e-stop unplugged", _silence_estop, ESTOP, "fell silent"),
    Fault("people", "dead-man switch released", _release, SOFT, "released"),
    Fault("people", "dead-man switch bounces", _bounce, ("active", "standby")),
    Fault("people", "dead-man switch unplugged", _silence_deadman, SOFT, "released"),
    Fault("teleop", "falls silent", partial(_jog_elsewhere, None), SOFT, "is silent", teleop=True),
    Fault("teleop", "asks for NaN", partial(_jog, float("nan")), SOFT, "jog refused", teleop=True),
    Fault("teleop", "moves a joint that is not there", partial(_jog_elsewhere, {"elbow": 0.3}), SOFT, "jog refused", teleop=True),
    Fault("teleop", "asks for 100 rad/s", partial(_jog, -100.0), ("active", "fault"), teleop=True),
    Fault("teleop", "shakes the stick", partial(_shake, 2.0), ACTIVE, teleop=True),
    Fault("teleop", "hands back and forth while it moves", _hand_back_and_forth, ACTIVE, teleop=True),
    Fault("teleop", "the policy dies meanwhile", partial(_signal, "sweep", signal.SIGKILL), ACTIVE, teleop=True),
    Fault("host", "one busy process per core for 2 s", partial(_hog, 2, 2.0), ("active", "standby", "fault")),
    Fault("host", "four busy processes for 2 s", partial(_hog, 4, 2.0), ("active", "standby", "fault")),
    Fault("host", "the bridge is not scheduled for 0.2 s", partial(_pause, "bridge", 0.2), FAULT, "interval"),
)


def chosen(only: Sequence[str]) -> tuple[Fault, ...]:
    """Faults whose group or name contains one of the texts, all if there are none. Raises `UserError` for a text that is in none."""
    names = {fault: f"{fault.group}: {fault.name}" for fault in FAULTS}
    for text in only:
        if not any(text in name for name in names.values()):
            raise UserError(f"no fault is called '{text}'; there are:\n  " + "\n  ".join(names.values()))
    return tuple(fault for fault, name in names.items() if not only or any(text in name for text in only))
