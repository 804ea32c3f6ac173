"""`vla-rl trials BUNDLE --robot PROFILE`: a bundle on the simulated robot over ROS 2, episode after episode.

Robot, bridge and policy are processes of their own, as on a robot, and time is the wall clock's. Between episodes the bridge rests
while the robot is put to its start. An episode has the task's horizon from when the bridge, once armed, has led the robot to the first
step of a chunk (`ramp_s`); the robot says whether the task is solved. `trials.json` is an evaluation like any other, paired with
those in the simulator by its seeds.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Protocol

import tyro
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from policies.bundle_folder import read_bundle
from policies.interface import UserError
from sim.humanoid import hands
from sim.humanoid.env import TASKS as HUMANOID_TASKS
from sim.tasks import TASKS
from sim.vec_env import SEED_RANGES
from vla_rl.evaluate import Evaluation, TaskResult, format_table
from vla_rl.provenance import describe_environment
from vla_rl.statistics import paired_difference
from vla_rl.tables import points

FILE = "trials.json"
END_S = 20.0
HORIZONS = {name: task.horizon for name, task in TASKS.items()} | HUMANOID_TASKS
"""Control steps of an episode of every task that a simulated robot can be put to."""


@dataclass(frozen=True)
class TrialsConfig:
    """Success of a deployed policy on the simulated robot, on test seeds of a task. Holds the dead-man switch: never for a real robot."""

    bundle: Annotated[Path, tyro.conf.Positional]
    """Folder of a bundle."""
    robot: Path
    """The simulated robot's profile, such as configs/robots/arm7.yaml."""
    out: Path
    """Folder for trials.json and the logs of the processes."""
    task: str = "lift"
    """Task of the tabletop, or of the humanoid."""
    episodes: int = 100
    """How many test seeds."""
    skip: int = 0
    """Leave out so many test seeds first."""
    speed: float = 1.0
    """Share of the joint velocity limits, 0 to 1."""
    blend: Literal["replace", "crossfade", "ensemble", "rtc"] = "replace"
    """How a new chunk takes over from the last one (`vla-rl deploy`)."""
    against: Path | None = None
    """Evaluation of the same policy in its simulator, on the same seeds; the paired difference is printed."""


def instruction(task: str, number: int) -> str:
    """What test seed `number`, counted from 0, of a task is about."""
    seed = SEED_RANGES["test"].start + number
    if task in HUMANOID_TASKS:
        return hands.Start.of(seed).instruction(seed, hands.INSTRUCTIONS)
    return TASKS[task].instruction(TASKS[task].draw(seed), seed, "train")


class Trial(Protocol):
    """Who operates the robot (`robot.ros2.trial`)."""

    solved: bool
    """Whether the task was solved within its horizon."""

    def begin(self) -> None:
        """Wait for everything to be on the graph."""
        ...

    def start(self, task: str, seed: int, horizon: int, step_s: float) -> None:
        """Put the robot to the start of an episode of so many control steps, and arm."""
        ...

    def finish(self) -> int:
        """Watch the episode to its end. Returns the control steps taken."""
        ...


Operating = Callable[[Path, Callable[[], str]], AbstractContextManager[Trial]]
"""From a profile, and a function that says which process ended (empty if none did), to a trial."""


def trials(config: TrialsConfig, operating: Operating) -> None:
    """Play the episodes, write `trials.json`, and commit and hardware beside it, print what came of it.

    Raises:
        UserError: bad settings, found before anything starts, or a process that ended or does not answer.
    """
    step_s = 1 / read_bundle(config.bundle).spec.control_hz  # before anything starts
    task, first = config.task, SEED_RANGES["test"].start + config.skip
    if task not in HORIZONS:
        raise UserError(f"unknown task '{task}'; allowed: {', '.join(HORIZONS)}")
    if config.episodes < 1 or config.skip < 0 or config.skip + config.episodes > len(SEED_RANGES["test"]):
        raise UserError(f"episodes must be at least 1 and skip at least 0, within {len(SEED_RANGES['test'])} test seeds")
    other = Evaluation.load(config.against) if config.against else None
    if other is not None and [(t.task, t.first_seed, len(t.steps)) for t in other.tasks] != [(task, first, config.episodes)]:
        raise UserError(f"{config.against} is not an evaluation of {task} on the {config.episodes} test seeds from {first}")
    out, robot = config.out, str(config.robot)
    out.mkdir(parents=True, exist_ok=True)
    commands = {
        "robot": ["sim-robot", robot, "--no-time-code", "--task", task],
        "deploy": ["deploy", str(config.bundle), "--robot", robot, "--speed", str(config.speed), "--blend", config.blend],
    }
    with _processes(commands, out) as alive, operating(config.robot, alive) as trial:
        trial.begin()
        result = _score(trial, task, range(first, first + config.episodes), step_s)
    evaluation = Evaluation(split="test", tasks=(result,))
    evaluation.save(out / FILE)
    (out / "environment.json").write_text(json.dumps(describe_environment(), indent=2) + "\n")
    print(format_table(evaluation))
    if other is not None:
        print(_difference(evaluation, other))
    print(f"results in {out / FILE}")


def _score(trial: Trial, task: str, seeds: Sequence[int], step_s: float) -> TaskResult:
    """Play every seed, and show how it goes."""
    horizon = HORIZONS[task]
    outcomes, steps = "", []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        bar = progress.add_task("trials", total=len(seeds))
        for seed in seeds:
            trial.start(task, seed, horizon, step_s)
            steps.append(trial.finish())
            outcomes += "1" if trial.solved else "0"
            progress.update(bar, advance=1, description=f"trials, {outcomes.count('1')} solved")
    return TaskResult(task=task, first_seed=seeds[0], outcomes=outcomes, at_end=outcomes, steps=tuple(steps))


def _difference(ours: Evaluation, theirs: Evaluation) -> str:
    """One sentence: success over ROS 2 less success in the simulator, paired by seed."""
    found = paired_difference([ours.array], [theirs.array])
    return f"over ROS 2 less in the simulator: {points(found.value)} points (95 % {points(found.low)} to {points(found.high)})"


@contextmanager
def _processes(commands: dict[str, list[str]], logs: Path) -> Iterator[Callable[[], str]]:
    """Verbs as processes that end with this block, the last one first; yields a function that says which one ended early."""
    running: dict[str, subprocess.Popen[bytes]] = {}

    def ended() -> str:
        gone = [name for name, process in running.items() if process.poll() is not None]
        return f"{gone[0]} ended: {(logs / f'{gone[0]}.log').read_text()[-2000:]}" if gone else ""

    # As Ctrl-C: nothing is left running.
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        for name, command in commands.items():
            with (logs / f"{name}.log").open("w") as log:
                running[name] = subprocess.Popen(
                    [sys.executable, "-m", "vla_rl.cli", *command],
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    env=os.environ | {"OMP_NUM_THREADS": "1", "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"},
                )
        yield ended
    finally:
        for process in reversed(running.values()):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
        for number, handler in before.items():
            signal.signal(number, handler)
