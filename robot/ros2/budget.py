"""Where the time from the camera to the command goes, and how evenly commands leave: a bundle on the simulated robot.

observed   from the image's stamp to the decision: drawing, transport, waiting for joint states
decided    the policy
carried    from the policy to the bridge, and into the plan
commanded  from there to the first command that follows the chunk
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import yaml
from rclpy.node import Node
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from sensor_msgs.msg import JointState
from std_msgs.msg import String

from policies.bundle_folder import read_bundle
from robot.processes import children
from robot.profile import load_profile
from robot.ros2.reports import EVENT_QOS, STATUS_QOS
from robot.ros2.sim_operator import LATCHED, Operator, OperatorError, on_this_host

STAGES = ("observed", "decided", "carried", "commanded")
NS = 1e9
REST_S = 1.0
"""Left out after arming."""
MOST_STOPS = 20
"""A rate at which the robot is stopped more often is given up."""


@dataclass(frozen=True)
class Spread:
    """Of times [s]."""

    median: float
    p99: float
    worst: float
    count: int

    @classmethod
    def of(cls, times_s: Sequence[float] | np.ndarray) -> Spread:
        """Raises `OperatorError` if there are none."""
        if not len(times_s):
            raise OperatorError("nothing was measured: the policy made no chunk that the bridge followed")
        values = np.asarray(times_s, float)
        median, p99, worst = (round(float(found), 6) for found in (np.median(values), np.percentile(values, 99), values.max()))
        return cls(median, p99, worst, len(values))


@dataclass(frozen=True)
class Budget:
    """One command rate."""

    command_hz: float
    stages: Mapping[str, Spread]
    total: Spread
    jitter: Spread
    """|interval between commands − period|."""
    missed_deadlines: int
    seconds: float
    stops: int
    """How often the robot was stopped and armed anew meanwhile."""


@dataclass(frozen=True)
class Told:
    """What the policy is told while the robot moves."""

    every_s: float
    instruction: Callable[[int], str]
    """The n-th one."""


@dataclass
class Record:
    """What was heard, by the time of each observation [ns]."""

    decisions: dict[int, tuple[float, float]]
    """Age of the observation when the chunk left, and inference time [s]."""
    accepted: dict[int, float]
    """Age when the bridge took the chunk into its plan [s]."""
    commands_ns: list[int]
    """Stamps of the commands that left."""


def stages_of(record: Record) -> tuple[dict[str, list[float]], list[float]]:
    """Times of each stage, and of all together [s], of the chunks that were followed."""
    stages: dict[str, list[float]] = {name: [] for name in STAGES}
    totals, commands = [], np.array(record.commands_ns)
    for t0_ns, accepted_s in record.accepted.items():
        if t0_ns not in record.decisions:
            continue
        age_s, inference_s = record.decisions[t0_ns]
        later = np.searchsorted(commands, t0_ns + round(accepted_s * NS))
        if later == len(commands):
            continue
        total_s = (int(commands[later]) - t0_ns) / NS
        parts = (age_s - inference_s, inference_s, accepted_s - age_s, total_s - accepted_s)
        for name, part in zip(STAGES, parts, strict=True):
            stages[name].append(part)
        totals.append(total_s)
    return stages, totals


def bench_budget(
    bundle: Path,
    profile: Path,
    task: str,
    rates_hz: Sequence[float],
    seconds: float,
    logs: Path,
    out: Path | None,
    about: Mapping[str, object],
    told: Told | None = None,
) -> list[Budget]:
    """Measure at each command rate, print the table and write the numbers. Without `told` each motion has the task's own instruction.

    Raises:
        OperatorError: at some rate robot, bridge or policy are not there, the bridge does not arm, or nothing was measured. The other
            rates are printed and written all the same.
    """
    found, failed, console = list[Budget](), dict[str, str](), Console(highlight=False)
    with console.status("") as status:
        for rate_hz in rates_hz:
            status.update(f"commands at {rate_hz:g} Hz: {seconds:g} s of motion")
            try:
                found.append(_measure(bundle, profile, task, rate_hz, seconds, logs / f"{rate_hz:g}hz", told))
            except OperatorError as error:
                failed[f"{rate_hz:g} Hz"] = str(error).strip()
    print_table(found)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        content = {**about, "budgets": [asdict(budget) for budget in found], "failed": failed}
        out.write_text(json.dumps(content, indent=1) + "\n")
    if failed:
        raise OperatorError("; ".join(f"at {rate}: {why}" for rate, why in failed.items()))
    return found


def print_table(budgets: Sequence[Budget]) -> None:
    """A line per stage and rate, milliseconds."""
    table = Table(box=SIMPLE_HEAD)
    for name in ("commands", "what", "median [ms]", "p99 [ms]", "worst [ms]", "n"):
        table.add_column(name, justify="left" if name == "what" else "right")
    for budget in budgets:
        rows = {**budget.stages, "camera to command": budget.total, "command jitter": budget.jitter}
        for name, spread in rows.items():
            values = (f"{1e3 * value:.2f}" for value in (spread.median, spread.p99, spread.worst))
            table.add_row(f"{budget.command_hz:g} Hz", name, *values, str(spread.count))
        table.add_row(
            "", f"{budget.missed_deadlines} missed deadlines, stopped {budget.stops} times in {budget.seconds:g} s", "", "", "", ""
        )
    Console(highlight=False).print(table)


class _Listener:
    """The operator, and what is heard while the robot moves."""

    def __init__(self, node: Node, robot: str, alive: Callable[[], str]) -> None:
        self.operator = Operator(node, robot, alive)
        self.record = Record({}, {}, [])
        self.listening = False
        self._instruct = node.create_publisher(String, f"/{robot}/policy/instruction", STATUS_QOS)
        node.create_subscription(String, f"/{robot}/policy/decision", self._decided, EVENT_QOS)
        node.create_subscription(String, f"{self.operator.bridge}/chunk", self._accepted, EVENT_QOS)
        node.create_subscription(JointState, f"{self.operator.bridge}/command_sent", self._commanded, EVENT_QOS)

    def instruct(self, instruction: str) -> None:
        """Tell the policy what to do."""
        self._instruct.publish(String(data=instruction))

    def _decided(self, message: String) -> None:
        values = json.loads(message.data)
        if self.listening:
            self.record.decisions[values["t0_ns"]] = (values["age_s"], values["inference_s"])

    def _accepted(self, message: String) -> None:
        values = json.loads(message.data)
        if self.listening:
            self.record.accepted[values["t0_ns"]] = values["age_s"]

    def _commanded(self, message: JointState) -> None:
        if self.listening:
            self.record.commands_ns.append(message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec)


def _measure(bundle: Path, profile: Path, task: str, rate_hz: float, seconds: float, logs: Path, told: Told | None) -> Budget:
    logs.mkdir(parents=True, exist_ok=True)
    with _running(bundle, _at_rate(profile, rate_hz, logs), task, logs) as listener:
        operator, stops = listener.operator, 0
        moved_s, missed, number = 0.0, 0, 0
        while moved_s < seconds:
            if stops > MOST_STOPS:
                raise OperatorError(f"the robot was stopped {stops} times in {moved_s:.1f} s of motion, at last into {operator.state}")
            operator.rest()
            listener.instruct(operator.place(task, stops))
            operator.hold()
            operator.armed()
            time.sleep(REST_S)
            before_s, missed_before = time.monotonic(), operator.status.get("missed_deadlines", 0)
            listener.listening = True
            while operator.state == "active" and moved_s + time.monotonic() - before_s < seconds:
                time.sleep(0.05)
                if told is not None and moved_s + time.monotonic() - before_s > (number + 1) * told.every_s:
                    number += 1
                    listener.instruct(told.instruction(number))
            listener.listening = False
            moved_s += time.monotonic() - before_s
            missed += operator.status.get("missed_deadlines", 0) - missed_before
            if operator.state != "active":
                stops += 1
                print(f"stopped after {moved_s:.0f} s: {operator.state}, {operator.status['cause']}", flush=True)
        stages, totals = stages_of(listener.record)
        intervals = np.diff(listener.record.commands_ns) / NS
        intervals = intervals[intervals < REST_S]  # not from one run to the next
        return Budget(
            rate_hz,
            {name: Spread.of(times_s) for name, times_s in stages.items()},
            Spread.of(totals),
            Spread.of(np.abs(intervals - 1 / rate_hz)),
            missed,
            seconds,
            stops,
        )


def _at_rate(profile: Path, rate_hz: float, folder: Path) -> Path:
    """The profile with another command rate; the watchdog bites after the same time."""
    content = yaml.safe_load(profile.read_text())
    faster = rate_hz / content["rates"]["command_hz"]
    content["rates"] = content["rates"] | {"command_hz": rate_hz}
    content["safety"] = content["safety"] | {"watchdog_misses": max(2, round(faster * content["safety"]["watchdog_misses"]))}
    path = folder / "profile.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@contextmanager
def _running(bundle: Path, profile: Path, task: str, logs: Path) -> Iterator[_Listener]:
    """Robot, policy and bridge as processes, and the operator of all."""
    images = read_bundle(bundle).spec.of_kind("image")
    watched = ["--cameras", *(entry.frame for entry in images)] if images else []
    size = ["--image-px", str(images[0].shape[0])] if images else []
    commands = {
        "robot": ["-m", "sim.ros2", str(profile), "--no-time-code", "--task", task, *size],
        "policy": ["-m", "robot.ros2.commander", str(bundle), str(profile)],
        "bridge": ["-m", "robot.ros2", str(profile), "--activate", "--speed", "1.0", *watched],
    }
    failures: list[Exception] = []
    with children(commands, logs) as processes:

        def ended() -> str:
            gone = [f"{name} ended: {child.last_words}" for name, child in processes.items() if child.ended]
            return gone[0] if gone else (f"a callback failed: {failures[0]!r}" if failures else "")

        with on_this_host("budget", lambda node: _Listener(node, load_profile(profile).name, ended), failures) as listener:
            listener.operator.require_alone()
            processes["robot"].start()
            listener.operator.until(lambda: bool(listener.operator.episode), "the robot is there")
            processes["policy"].start()
            processes["bridge"].start()
            listener.operator.until(lambda: listener.operator.state in ("standby", *LATCHED), "the bridge is there")
            yield listener
