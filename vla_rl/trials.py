"""`vla-rl trials BUNDLE --robot PROFILE`: a bundle on the simulated robot over ROS 2, episode after episode.

Robot, bridge and policy are processes of their own, as on a robot, and time is the wall clock's. Between episodes the bridge rests
while the robot is put to its start. An episode begins when the bridge is armed and has the task's horizon from then on; the robot
says whether the task is solved. `trials.json` is an evaluation like any other, paired with those in the simulator by its seeds.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from policies.interface import UserError
from sim.vec_env import SEED_RANGES

if TYPE_CHECKING:
    from rclpy.node import Node

    from vla_rl.evaluate import Evaluation, TaskResult

FILE = "trials.json"
BEAT_HZ = 20.0
POLL_S = 0.02
LATCHED = ("fault", "estop")
WAIT_S = 120.0
"""How long anything on the graph may take before it counts as failed."""
SETTLE_S = 0.1
"""After a reset, until joint states of the new start have come in."""
END_S = 20.0
DEACTIVATE, ACTIVATE = 4, 3
"""Lifecycle transitions."""


class TrialError(UserError):
    """The robot, the bridge or the policy is not there, or does not go on."""


def trials(
    bundle: Annotated[Path, tyro.conf.Positional],
    robot: Path,
    out: Path,
    task: str = "lift",
    episodes: int = 100,
    skip: int = 0,
    speed: float = 1.0,
    against: Path | None = None,
) -> int:
    """Success of a deployed policy on the simulated robot, on the test seeds of a task. Holds the dead-man switch: never for a real robot.

    Args:
        bundle: folder of a bundle.
        robot: the simulated robot's profile, such as configs/robots/arm7.yaml.
        out: folder for trials.json and the logs of the processes.
        task: tabletop task.
        episodes: how many test seeds.
        skip: leave out so many test seeds first.
        speed: share of the joint velocity limits, 0 to 1.
        against: evaluation.json of the same policy in its simulator, on the same seeds; the paired difference is printed.
    """
    from policies.bundle_folder import read_bundle
    from sim.tasks import TASKS
    from vla_rl.evaluate import Evaluation, format_table

    read_bundle(bundle)  # before anything starts

    if task not in TASKS:
        raise UserError(f"unknown tabletop task '{task}'; allowed: {', '.join(TASKS)}")
    if episodes < 1 or skip < 0 or skip + episodes > len(SEED_RANGES["test"]):
        raise UserError(f"episodes must be at least 1 and skip at least 0, within {len(SEED_RANGES['test'])} test seeds")
    other = Evaluation.load(against) if against else None
    first = SEED_RANGES["test"].start + skip
    if other is not None and [(t.task, t.first_seed, len(t.steps)) for t in other.tasks] != [(task, first, episodes)]:
        raise UserError(f"{against} is not an evaluation of {task} on the {episodes} test seeds from {first}")
    out.mkdir(parents=True, exist_ok=True)
    commands = {
        "robot": ["sim-robot", str(robot), "--no-time-code", "--task", task],
        "deploy": ["deploy", str(bundle), "--robot", str(robot), "--speed", str(speed)],
    }
    with _processes(commands, out) as alive, _trial(robot, alive) as trial:
        trial.begin()
        result = _score(trial, task, range(first, first + episodes))
    evaluation = Evaluation(split="test", tasks=(result,))
    evaluation.save(out / FILE)
    print(format_table(evaluation))
    if other is not None:
        print(_difference(evaluation, other))
    print(f"results in {out / FILE}")
    return 0


class Trial:
    """The operator of all episodes, and who puts the robot to its start."""

    def __init__(self, node: Node, robot: str, alive: Callable[[], str]) -> None:
        """`node` is spun by another thread; `alive` says which process ended, if one has."""
        from lifecycle_msgs.srv import ChangeState
        from rcl_interfaces.srv import SetParameters
        from sensor_msgs.msg import Joy
        from std_msgs.msg import Bool, String
        from std_srvs.srv import Trigger

        from robot.ros2.operators import BEAT_QOS, ESTOP_QOS
        from robot.ros2.reports import STATUS_QOS

        bridge, arm = f"/{robot}/bridge", f"/{robot}/sim_robot"
        self._node, self._alive = node, alive
        self._estop = node.create_publisher(Bool, f"{bridge}/estop", ESTOP_QOS)
        self._deadman = node.create_publisher(Joy, f"{bridge}/deadman", BEAT_QOS)
        self._instruct = node.create_publisher(String, f"/{robot}/policy/instruction", STATUS_QOS)
        self._change = node.create_client(ChangeState, f"{bridge}/change_state")
        self._set = node.create_client(SetParameters, f"{arm}/set_parameters")
        self._services = {
            name: node.create_client(Trigger, name)
            for name in (f"{bridge}/arm", f"{bridge}/disarm", f"{bridge}/reset_fault", f"{arm}/reset")
        }
        self._bridge, self._arm = bridge, arm
        self.episode: dict[str, Any] = {}
        self.status: dict[str, Any] = {"state": "", "cause": ""}
        self._armed_at: int | None = None
        self._horizon = 0
        self.solved = False
        node.create_subscription(String, f"{arm}/episode", self._report, 50)
        node.create_subscription(String, f"{bridge}/status", self._see, STATUS_QOS)
        node.create_timer(1 / BEAT_HZ, self._beat)

    def begin(self) -> None:
        """Wait for everything to be on the graph."""
        self._until(lambda: self.status["state"] in ("standby", *LATCHED) and bool(self.episode), "robot and bridge are there")
        self._until(lambda: self._node.count_publishers(f"{self._bridge}/heartbeat") > 0, "the policy is loaded")

    def start(self, task: str, seed: int, horizon: int) -> None:
        """Put the robot to the start of an episode of `horizon` control steps, and arm."""
        self._recover()
        self._until(lambda: self.status["state"] in ("standby", "inactive"), "the bridge stands by")
        self._lifecycle(DEACTIVATE)
        self._place(task, seed)
        time.sleep(SETTLE_S)
        self._lifecycle(ACTIVATE)
        self._until(lambda: self.status["state"] == "standby", "the bridge holds")
        self.solved, self._armed_at, self._horizon = False, None, horizon
        self._until(lambda: self._call(f"{self._bridge}/arm").success, "the bridge arms")
        self._armed_at = self.episode["steps"]

    def finish(self) -> int:
        """Watch an armed robot until the task is solved, its time is up or it was stopped; disarm. Returns the control steps taken."""
        self._until(lambda: self.solved or self._taken >= self._horizon or self.status["state"] in LATCHED, "the episode ends")
        taken = self._taken
        self._call(f"{self._bridge}/disarm")
        self._recover()
        return max(1, min(taken, self._horizon))

    def _recover(self) -> None:
        """Reset a latched stop, and say what it was."""
        if self.status["state"] in LATCHED:
            print(f"seed {self.episode['seed']}: {self.status['state']}, {self.status['cause']}", flush=True)
            self._until(lambda: self._call(f"{self._bridge}/reset_fault").success, "the bridge is reset")

    @property
    def _taken(self) -> int:
        return self.episode["steps"] - self._armed_at if self._armed_at is not None else 0

    def _place(self, task: str, seed: int) -> None:
        from rcl_interfaces.srv import SetParameters
        from rclpy.parameter import Parameter
        from std_msgs.msg import String

        wanted = [Parameter(name, value=value).to_parameter_msg() for name, value in (("task", task), ("seed", seed))]
        answers = self._ask(self._set, SetParameters.Request(parameters=wanted), "the robot's parameters").results
        if not all(answer.successful for answer in answers):
            raise TrialError("; ".join(answer.reason for answer in answers))
        found = self._call(f"{self._arm}/reset")
        if not found.success:
            raise TrialError(found.message)
        self._instruct.publish(String(data=found.message))
        self._until(lambda: self.episode.get("seed") == seed, "the robot is at its start")

    def _lifecycle(self, transition: int) -> None:
        from lifecycle_msgs.srv import ChangeState

        request = ChangeState.Request()
        request.transition.id = transition
        self._until(lambda: self._ask(self._change, request, "the bridge's lifecycle").success, f"transition {transition} of the bridge")

    def _call(self, name: str) -> Any:
        from std_srvs.srv import Trigger

        return self._ask(self._services[name], Trigger.Request(), name)

    def _ask(self, client: Any, request: Any, what: str) -> Any:
        self._until(client.service_is_ready, f"{what} is there")
        future = client.call_async(request)
        self._until(future.done, f"{what} answers")
        return future.result()

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        end_s = time.monotonic() + WAIT_S
        while not condition():
            self._check()
            if time.monotonic() > end_s:
                raise TrialError(
                    f"waited {WAIT_S:g} s in vain until {what}; the bridge is in '{self.status['state']}' {self.status['cause']}"
                )
            time.sleep(POLL_S)

    def _check(self) -> None:
        if ended := self._alive():
            raise TrialError(ended)

    def _report(self, message: Any) -> None:
        self.episode = json.loads(message.data)
        if 0 < self._taken <= self._horizon:
            self.solved = self.solved or bool(self.episode["success_now"])

    def _see(self, message: Any) -> None:
        self.status = json.loads(message.data)

    def _beat(self) -> None:
        from sensor_msgs.msg import Joy
        from std_msgs.msg import Bool

        self._estop.publish(Bool(data=False))
        self._deadman.publish(Joy(buttons=[1]))


def _score(trial: Trial, task: str, seeds: Sequence[int]) -> TaskResult:
    """Play every seed, and show how it goes."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from sim.tasks import TASKS
    from vla_rl.evaluate import TaskResult

    horizon = TASKS[task].horizon
    outcomes, steps = "", []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        bar = progress.add_task("trials", total=len(seeds))
        for seed in seeds:
            trial.start(task, seed, horizon)
            steps.append(trial.finish())
            outcomes += "1" if trial.solved else "0"
            progress.update(bar, advance=1, description=f"trials, {outcomes.count('1')} solved")
    return TaskResult(task=task, first_seed=seeds[0], outcomes=outcomes, at_end=outcomes, steps=tuple(steps))


def _difference(ours: Evaluation, theirs: Evaluation) -> str:
    """One sentence: success over ROS 2 less success in the simulator, paired by seed."""
    from vla_rl.statistics import paired_difference
    from vla_rl.tables import points

    found = paired_difference([ours.array], [theirs.array])
    return f"over ROS 2 less in the simulator: {points(found.value)} points (95 % {points(found.low)} to {points(found.high)})"


@contextmanager
def _trial(profile: Path, alive: Callable[[], str]) -> Iterator[Trial]:
    import rclpy
    from rclpy.signals import SignalHandlerOptions

    from robot.profile import load_profile
    from robot.ros2.comms import CommsThread, make_executor

    failures: list[Exception] = []
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("trials")
    comms = CommsThread(node, make_executor(node.context), failures.append)
    trial = Trial(node, load_profile(profile).name, lambda: alive() or (f"a callback failed: {failures[0]!r}" if failures else ""))
    comms.start()
    try:
        yield trial
    finally:
        comms.stop()
        node.destroy_node()
        rclpy.shutdown()


@contextmanager
def _processes(commands: dict[str, list[str]], logs: Path) -> Iterator[Callable[[], str]]:
    """Verbs as processes that end with this block, the last one first; yields a function that says which one ended early."""
    running: dict[str, subprocess.Popen[bytes]] = {}

    def ended() -> str:
        gone = [name for name, process in running.items() if process.poll() is not None]
        return f"{gone[0]} ended: {(logs / f'{gone[0]}.log').read_text()[-2000:]}" if gone else ""

    try:
        for name, command in commands.items():
            with (logs / f"{name}.log").open("w") as log:
                running[name] = subprocess.Popen(
                    [sys.executable, "-m", "vla_rl.cli", *command],
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    env=os.environ | {"OMP_NUM_THREADS": "1"},
                )
        yield ended
    finally:
        for process in reversed(running.values()):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 bad input."""
    import importlib.util

    if importlib.util.find_spec("rclpy") is None:
        raise UserError("trials need ROS 2: install the extra 'ros' (pip install 'vla-rl[ros]')")
    return tyro.cli(trials, args=argv, prog="vla-rl trials")
