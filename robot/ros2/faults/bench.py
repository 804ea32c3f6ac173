"""Every fault several times: how it ended, how fast commands and robot stopped, what exceeded a limit, whether it arms again."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from robot.profile import RobotProfile
from robot.ros2.faults.catalogue import Fault
from robot.ros2.faults.cell import Cell, Moment, faulty_cell
from robot.ros2.sim_operator import OperatorError

STILL = 1e-6
"""Commanded speed below which commands stand [unit/s]."""
RESTING = 0.01
"""Share of a joint's velocity limit below which it rests."""
SETTLE_S = 0.5
"""Watched after a fault has ended the motion, at least."""
REST_S = 4.0
"""How much longer the robot may take to come to rest while it is watched."""
AGAIN_S = 60.0
"""How long arming again may take, with the start of a process."""
BEFORE_S = 0.5
"""Commands of so long before a fault count as where the robot may be."""
TABLE_WIDTH = 150
COLUMNS = [
    "group", "fault", "ends in", "as expected", "commands stop [s], median (worst)", "robot rests [s]", "commands past limits",
    "robot past soft margins", "robot past commands", "events", "arms again",
]  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What came of one fault, once."""

    ended: str
    """State after it; `gone` if there is no bridge."""
    right: bool
    """It ended, and said, as the catalogue expects."""
    codes: tuple[str, ...]
    """Events, in order of the first of each."""
    cause: str
    commands_stop_s: float | None
    """From injection to the last command that moves; `None` if the robot went on."""
    robot_rests_s: float | None
    """From injection to the robot at rest."""
    command_excess: float
    """Largest by which a command exceeded a limit of position or velocity [unit, unit/s]. Must be 0."""
    margin_excess: float
    """Largest by which a measured position was past a soft margin [unit]."""
    past_commands: float
    """Largest by which a measured position left the range of the commands [unit]."""
    armed_again: bool
    """Once the fault was gone: reset, armed and moving."""


@dataclass(frozen=True)
class Row:
    """All repetitions of a fault."""

    group: str
    fault: str
    expected: tuple[str, ...]
    outcomes: tuple[Outcome, ...]


def bench_faults(path: Path, faults: Sequence[Fault], repeats: int, logs: Path, out: Path | None, about: Mapping[str, object]) -> list[Row]:
    """Inject every fault `repeats` times into a simulated robot of a profile, and print the table.

    Args:
        path: the profile.
        faults: which ones.
        repeats: of each.
        logs: folder for the logs of the processes.
        out: file for the numbers, as JSON; the table is written beside it, as Markdown.
        about: what is said of the host in the file.

    Raises:
        OperatorError: robot or bridge do not come back.
    """
    console, rows = Console(highlight=False), list[Row]()
    began_s, total = time.monotonic(), len(faults) * repeats
    with faulty_cell(path, logs) as cell, console.status("") as status:
        for i, fault in enumerate(faults):
            outcomes = []
            for repeat in range(repeats):
                done = i * repeats + repeat
                left_s = (time.monotonic() - began_s) / max(done, 1) * (total - done)
                wrong = sum(not outcome.right for row in rows for outcome in row.outcomes)
                left = f" · about {left_s / 60:.0f} min left" if done else ""
                status.update(f"{done} of {total}: {fault.group}, {fault.name} · {wrong} unexpected{left}")
                outcomes.append(suffer(cell, fault))
            rows.append(Row(fault.group, fault.name, fault.ends, tuple(outcomes)))
            if out is not None:
                write(rows, out, about)
    print_table(rows)
    return rows


def write(rows: Sequence[Row], out: Path, about: Mapping[str, object]) -> None:
    """What is said of the host and the numbers as JSON, and the table beside it as Markdown."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({**about, "rows": [asdict(row) for row in rows]}, indent=1) + "\n")
    cells = [COLUMNS, ["---"] * len(COLUMNS), *map(_cells, rows)]
    out.with_suffix(".md").write_text("\n".join(f"| {' | '.join(line)} |" for line in cells) + "\n")


def suffer(cell: Cell, fault: Fault) -> Outcome:
    """Inject one fault into a robot that moves, watch, and bring everything back."""
    make_ready(cell)
    if fault.teleop:
        cell.teleoperate()
    since_s = time.monotonic()
    fault.inject(cell)
    ended = _watch(cell, fault, since_s)
    sent, truth, heard, cause = list(cell.sent), list(cell.truth), list(cell.heard), cell.operator.status["cause"]
    said = [event for event in heard if event.at_s >= since_s]
    text = "\n".join([cause if ended in ("fault", "estop") else "", *(f"{event.code}: {event.text}" for event in said)])
    return Outcome(
        ended=ended,
        right=ended in fault.ends and fault.says in text,
        codes=tuple(dict.fromkeys(event.code for event in said if event.code != "state")),
        cause=cause if ended in ("fault", "estop") else "",
        commands_stop_s=None if ended == "active" else _last(sent, np.full(len(cell.profile.joints), STILL), since_s),
        robot_rests_s=None if ended == "active" else _rests(cell.profile, truth, since_s),
        command_excess=_command_excess(cell.profile, sent),
        margin_excess=_margin_excess(cell.profile, truth),
        past_commands=_past_commands(sent, truth, since_s),
        armed_again=_arms_again(cell),
    )


def make_ready(cell: Cell) -> None:
    """The robot moves; everything is started anew if what is left of the last fault does not let it."""
    try:
        cell.recover()
        cell.move()
    except OperatorError as error:
        print(f"everything is started anew: {error}", flush=True)
        cell.end()
        cell.recover()
        cell.move()


def print_table(rows: Sequence[Row]) -> None:
    """A line per fault."""
    table = Table(box=SIMPLE_HEAD)
    for name in COLUMNS:
        table.add_column(escape(name))
    for row in rows:
        table.add_row(*_cells(row))
    console = Console(highlight=False)
    Console(highlight=False, width=max(console.width, TABLE_WIDTH)).print(table)


def _cells(row: Row) -> list[str]:
    outcomes = row.outcomes
    return [
        row.group,
        row.fault,
        ", ".join(dict.fromkeys(outcome.ended for outcome in outcomes)),
        f"{sum(outcome.right for outcome in outcomes)} of {len(outcomes)}",
        _times([outcome.commands_stop_s for outcome in outcomes]),
        _times([outcome.robot_rests_s for outcome in outcomes]),
        f"{max(outcome.command_excess for outcome in outcomes):.3g}",
        f"{max(outcome.margin_excess for outcome in outcomes):.3g}",
        f"{max(outcome.past_commands for outcome in outcomes):.3f}",
        ", ".join(dict.fromkeys(code for outcome in outcomes for code in outcome.codes)),
        f"{sum(outcome.armed_again for outcome in outcomes)} of {len(outcomes)}",
    ]


def _times(times_s: Sequence[float | None]) -> str:
    known = [time_s for time_s in times_s if time_s is not None]
    return "–" if len(known) < len(times_s) or not known else f"{np.median(known):.2f} ({max(known):.2f})"


def _watch(cell: Cell, fault: Fault, since_s: float) -> str:
    """Wait until the fault has ended the motion, or its time is over. Returns the state."""
    end_s = since_s + fault.watch_s
    while time.monotonic() < end_s:
        if _state(cell) not in ("active", "soft_stop", "arming"):
            time.sleep(SETTLE_S)
            _until_rest(cell, since_s)
            break
        time.sleep(0.02)
    if fault.ends == ("gone",) and cell.children["bridge"].alive:
        time.sleep(SETTLE_S)
    return _state(cell)


def _until_rest(cell: Cell, since_s: float) -> None:
    end_s = time.monotonic() + REST_S
    while time.monotonic() < end_s and _rests(cell.profile, list(cell.truth), since_s) is None:
        time.sleep(0.02)


def _state(cell: Cell) -> str:
    return cell.operator.state if cell.children["bridge"].alive else "gone"


def _rests(profile: RobotProfile, truth: Sequence[Moment], since_s: float) -> float | None:
    return _last(truth, RESTING * np.array([joint.velocity for joint in profile.joints]), since_s)


def _last(moments: Sequence[Moment], still: np.ndarray, since_s: float) -> float | None:
    """Time from `since_s` to the last moment that moves; `None` if that is the last of all."""
    moving = [i for i, moment in enumerate(moments) if moment.at_s >= since_s and np.any(np.abs(moment.velocity) > still)]
    if not moving:
        return 0.0
    if moving[-1] == len(moments) - 1 and time.monotonic() - moments[-1].at_s < SETTLE_S / 2:
        return None
    return round(moments[moving[-1]].at_s - since_s, 4)


def _command_excess(profile: RobotProfile, sent: Sequence[Moment]) -> float:
    positions, velocities = np.array([moment.position for moment in sent]), np.array([moment.velocity for moment in sent])
    low, high = np.array([joint.position for joint in profile.joints]).T
    limit = np.array([joint.velocity for joint in profile.joints])
    return _rounded((low - positions).max(), (positions - high).max(), (np.abs(velocities) - limit).max())


def _margin_excess(profile: RobotProfile, truth: Sequence[Moment]) -> float:
    positions = np.array([moment.position for moment in truth])
    low, high = np.array([joint.position for joint in profile.joints]).T
    margin = np.array([joint.soft_margin for joint in profile.joints])
    return _rounded((low + margin - positions).max(), (positions - high + margin).max())


def _past_commands(sent: Sequence[Moment], truth: Sequence[Moment], since_s: float) -> float:
    commands = np.array([moment.position for moment in sent if moment.at_s >= since_s - BEFORE_S])
    measured = np.array([moment.position for moment in truth if moment.at_s >= since_s])
    if not len(commands) or not len(measured):
        return 0.0
    return _rounded((commands.min(0) - measured).max(), (measured - commands.max(0)).max())


def _rounded(*excesses: float) -> float:
    return round(float(max(0.0, *excesses)), 6)


def _arms_again(cell: Cell) -> bool:
    began_s = time.monotonic()
    try:
        cell.recover()
        cell.move()
    except OperatorError as error:
        print(f"it does not arm again: {error}", flush=True)
        return False
    return time.monotonic() - began_s < AGAIN_S and cell.operator.state == "active"
