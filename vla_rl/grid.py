"""Experiments as grids: every cell × training seed is one run, finished ones are small JSON files and are skipped.

A grid file names its cells and how they depend on one another:

    name: main
    seeds: [0, 1, 2]
    cells:
      demos:   {collect: ../collect/demos.yaml, seeds: [0]}
      teacher: {preset: ../sft.yaml, data: demos, seeds: [0]}
      student: {preset: ../sft.yaml, data: demos, set: {data.episodes_per_task: 2}}
      opd:     {preset: ../opd.yaml, init: student, teacher: teacher}

A reference to a cell with one seed means that seed; otherwise the seed of the referring run.
"""

from __future__ import annotations

import difflib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from pydantic import Field, ValidationError, model_validator
from rich.console import Console

from policies.interface import UserError
from vla_rl.config import Strict, read_yaml
from vla_rl.provenance import describe_environment

Execute = Callable[[list[str], Path], None]
"""Runs a command with its output appended to a log file; raises `GridError` if it fails."""

GRACE_S = 60.0
"""After Ctrl-C or SIGTERM, how long a run may take to write its checkpoint."""


class GridError(UserError):
    """A grid file is wrong, or one of its runs failed."""


class Cell(Strict):
    """One kind of run."""

    preset: Path | None = None
    """Training preset, relative to the grid file."""
    collect: Path | None = None
    """Preset of a data collection, relative to the grid file; instead of `preset`."""
    init: str | None = None
    """Cell, or policy folder, to start from."""
    teacher: str | None = None
    """Cell, or policy folder, or `expert`."""
    data: str | None = None
    """Cell with `collect`, or dataset folder."""
    policy: str | None = None
    """Only with `collect`: cell, or policy folder, whose rollouts are collected instead of the experts'."""
    seeds: tuple[int, ...] | None = None
    """Training seeds of this cell; the grid's own if unset."""
    set: dict[str, Any] = Field(default={})
    """Settings by dotted key that differ from the preset."""

    @model_validator(mode="after")
    def _one_verb(self) -> Cell:
        if (self.preset is None) == (self.collect is None):
            raise ValueError("a cell needs exactly one of preset and collect")
        if self.collect and (self.init or self.teacher or self.data):
            raise ValueError("a cell that collects data has no init, teacher or data")
        if self.preset and self.policy:
            raise ValueError("a cell that trains has no policy; it starts from init")
        return self

    @property
    def references(self) -> dict[str, str]:
        """Setting → cell name or path, for those that are set."""
        values = {"init": self.init, "teacher": self.teacher, "data.path": self.data, "policy": self.policy}
        return {key: value for key, value in values.items() if value is not None}


class Grid(Strict):
    """A set of cells that are reported together."""

    name: str = Field(pattern=r"^[\w-]+$")
    """Folder name under `runs/` and `configs/results/`."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Training seeds of every cell that has none of its own."""
    cells: dict[str, Cell] = Field(min_length=1)
    """Cells by name."""

    def seeds_of(self, cell: str) -> tuple[int, ...]:
        """Training seeds of a cell."""
        own = self.cells[cell].seeds
        return self.seeds if own is None else own


@dataclass(frozen=True)
class Run:
    """One cell at one training seed."""

    cell: str
    seed: int

    @property
    def name(self) -> str:
        """Folder and file name, `<cell>-s<seed>`."""
        return f"{self.cell}-s{self.seed}"


def load_grid(path: Path) -> Grid:
    """Read and check a grid file. Raises `FileNotFoundError`, or `GridError` in one sentence."""
    try:
        grid = Grid.model_validate(read_yaml(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            known = list(Cell.model_fields if "." in where else Grid.model_fields)
            raise GridError(f"{path}: unknown key '{where}'{_suggest(where.rpartition('.')[2], known)}; known are {known}") from error
        raise GridError(f"{path}: {where}: {first['msg'].removeprefix('Value error, ')}, got {first['input']!r}") from error
    for name, cell in grid.cells.items():
        _check_cell(grid, name, cell, path)
    order(grid, [Run(name, seed) for name in grid.cells for seed in grid.seeds_of(name)])
    return grid


def _check_cell(grid: Grid, name: str, cell: Cell, path: Path) -> None:
    if not (path.parent / (cell.preset or cell.collect or "")).is_file():
        raise GridError(f"{path}: cell '{name}': no such preset {path.parent / (cell.preset or cell.collect or '')}")
    for key, value in cell.references.items():
        other = grid.cells.get(value)
        if other is None and value != "expert" and "/" not in value:
            raise GridError(
                f"{path}: cell '{name}': {key} is '{value}', neither a cell nor a path (which has a slash)"
                f"{_suggest(value, list(grid.cells))}; cells are {list(grid.cells)}"
            )
        if value == "expert" and key != "teacher":
            raise GridError(f"{path}: cell '{name}': only teacher can be 'expert', not {key}")
        if other is not None and (other.collect is not None) != (key == "data.path"):
            wanted = "a cell with collect" if key == "data.path" else "a cell with preset"
            raise GridError(f"{path}: cell '{name}': {key} must name {wanted}, '{value}' is not one")


def dependencies(grid: Grid, run: Run) -> dict[str, Run]:
    """Setting → run whose result it needs. Raises `GridError` if the referenced cell lacks the seed."""
    needed = {}
    for key, value in grid.cells[run.cell].references.items():
        if value not in grid.cells:
            continue
        seeds = grid.seeds_of(value)
        if len(seeds) > 1 and run.seed not in seeds:
            raise GridError(f"cell '{run.cell}' at seed {run.seed} needs cell '{value}' at that seed, which has seeds {list(seeds)}")
        needed[key] = Run(value, seeds[0] if len(seeds) == 1 else run.seed)
    return needed


def order(grid: Grid, runs: Sequence[Run]) -> list[Run]:
    """`runs` and everything they need, dependencies first. Raises `GridError` naming a reference cycle."""
    done: dict[Run, None] = {}

    def visit(run: Run, path: tuple[str, ...]) -> None:
        if run.cell in path:
            raise GridError(f"cells refer to one another in a circle: {' → '.join((*path[path.index(run.cell) :], run.cell))}")
        if run not in done:
            for other in dependencies(grid, run).values():
                visit(other, (*path, run.cell))
            done[run] = None

    for run in runs:
        visit(run, ())
    return list(done)


@dataclass(frozen=True)
class Plan:
    """Where a grid's runs and results lie, and what is left to do."""

    grid: Grid
    path: Path
    runs: Path
    """Root of run folders; this grid's are in `<runs>/<grid>/`."""
    results: Path
    """Root of finished records; this grid's are in `<results>/<grid>/`."""

    def folder(self, run: Run) -> Path:
        """Run folder: checkpoints, policy, logs. Not kept in the repository."""
        return self.runs / self.grid.name / run.name

    def artefact(self, run: Run) -> Path:
        """What other runs need of this one: its dataset or its policy folder."""
        return self.folder(run) / ("dataset" if self.grid.cells[run.cell].collect else "policy")

    def record(self, run: Run) -> Path:
        """The small JSON file of the finished run."""
        return self.results / self.grid.name / f"{run.name}.json"

    def command(self, run: Run) -> list[str]:
        """Arguments of `vla-rl` that do the run."""
        cell = self.grid.cells[run.cell]
        verb, preset, flag = ("collect", cell.collect, "--out") if cell.collect else ("train", cell.preset, "--run-dir")
        target = self.artefact(run) if cell.collect else self.folder(run)
        needed = dependencies(self.grid, run)
        values = {key: str(self.artefact(needed[key])) if key in needed else value for key, value in cell.references.items()}
        settings = [token for key, value in {**values, **cell.set}.items() for token in _flag(key, value)]
        source = os.path.relpath(self.path.parent / (preset or ""))
        return [verb, source, flag, str(target), "--seed", str(run.seed), *settings]

    def preset(self, run: Run) -> dict[str, Any]:
        """Content of the run's preset, kept in its record: an edited preset makes another run."""
        cell = self.grid.cells[run.cell]
        return read_yaml(self.path.parent / (cell.preset or cell.collect or ""))

    def portable_command(self, run: Run) -> str:
        """The command as recorded: the same wherever the run folders lie, seen from the folder that holds `configs/`."""
        verb, source, *rest = replace(self, runs=Path("runs")).command(run)
        source = os.path.relpath(source, self.path.absolute().parents[2])
        return shlex.join(["vla-rl", verb, source, *rest])

    def finished(self, run: Run) -> bool:
        """Whether the run's record exists. Raises `GridError` if it was made by another command."""
        if not self.record(run).is_file():
            return False
        record = json.loads(self.record(run).read_text())
        recorded = record["command"]
        if record["preset"] != self.preset(run):
            raise GridError(f"{self.record(run)} was made before its preset was edited; delete it to run the cell again")
        if recorded != self.portable_command(run):
            raise GridError(
                f"{self.record(run)} was made by another command than the grid now asks for; delete it to run the cell again\n"
                f"  recorded: {recorded}\n  wanted:   {self.portable_command(run)}"
            )
        return True

    def remaining(self, only: Sequence[str] = ()) -> list[Run]:
        """Unfinished runs of the cells in `only` (all if empty), with the runs whose files they need and lack, in order."""
        unknown = [name for name in only if name not in self.grid.cells]
        if unknown:
            raise GridError(f"grid '{self.grid.name}' has no cell '{unknown[0]}'{_suggest(unknown[0], list(self.grid.cells))}")
        wanted = [Run(cell, seed) for cell in only or self.grid.cells for seed in self.grid.seeds_of(cell)]
        needed = {run for run in wanted if not self.finished(run)}
        ordered = order(self.grid, wanted)
        for run in reversed(ordered):
            if run in needed:
                missing = (r for r in dependencies(self.grid, run).values() if not self.finished(r) or not self.artefact(r).exists())
                needed.update(missing)
        return [run for run in ordered if run in needed]


def run_grid(
    path: Path,
    only: tuple[str, ...] = (),
    runs: Path = Path("runs"),
    dry_run: bool = False,
    results: Path | None = None,
    execute: Execute | None = None,
) -> None:
    """Do every unfinished run of a grid, one after another; calling it again resumes.

    Args:
        path: grid file.
        only: cells to finish (with what they need); all if empty.
        runs: root of the run folders.
        dry_run: print the commands that would run, and stop.
        results: root of the finished records; `results/` beside the folder of grid files by default.
        execute: how a command is run; as a subprocess of this interpreter by default.

    Raises:
        GridError: the grid file is wrong, a record was made by another command, or a run failed.
    """
    plan = Plan(load_grid(path), path, runs, results or path.parent.parent / "results")
    todo = plan.remaining(only)
    console = Console(highlight=False)
    total = sum(len(plan.grid.seeds_of(cell)) for cell in only or plan.grid.cells)
    console.print(f"grid {plan.grid.name}: {total} runs, {len(todo)} to do")
    seconds: dict[str, list[float]] = {}
    for index, run in enumerate(todo):
        if dry_run:
            console.print(plan.portable_command(run), soft_wrap=True)
            continue
        left = _time_left(seconds, todo[index:])
        with console.status(f"[{index + 1}/{len(todo)}] {run.name}{left} · log: {_log(plan, run)}"):
            elapsed = _do(plan, run, execute or _execute)
        seconds.setdefault(run.cell, []).append(elapsed)
        left = _time_left(seconds, todo[index + 1 :])
        console.print(f"[{index + 1}/{len(todo)}] {run.name}: {elapsed / 60:.1f} min{_headline(plan, run)}{left}")


def _do(plan: Plan, run: Run, execute: Execute) -> float:
    """Execute one run and write its record. Returns the seconds it took."""
    folder, log, collects = plan.folder(run), _log(plan, run), plan.grid.cells[run.cell].collect is not None
    resumed = folder.exists()
    log.parent.mkdir(parents=True, exist_ok=True)
    _claim_folder(plan, run)
    environment = describe_environment()
    begin = time.monotonic()
    execute([sys.executable, "-m", "vla_rl.cli", *plan.command(run), *(["--resume"] if resumed and not collects else [])], log)
    elapsed = time.monotonic() - begin
    if not plan.artefact(run).exists():
        raise GridError(f"cell '{run.cell}' at seed {run.seed} ended without writing {plan.artefact(run)}; see {log}")
    record = {
        "grid": plan.grid.name,
        "cell": run.cell,
        "seed": run.seed,
        "kind": "collect" if collects else "train",
        "command": plan.portable_command(run),
        "preset": plan.preset(run),
        **environment,
        "minutes": round(elapsed / 60, 2),
        "resumed": resumed,
        "result": {} if collects else _read_result(folder / "result.json"),
    }
    plan.record(run).parent.mkdir(parents=True, exist_ok=True)
    partial = plan.record(run).with_suffix(".partial")
    partial.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n")
    partial.replace(plan.record(run))
    return elapsed


def _claim_folder(plan: Plan, run: Run) -> None:
    """Note which command owns the run folder. Raises `GridError` rather than resume a run of another command."""
    note = _log(plan, run).with_suffix(".command")
    command = plan.portable_command(run)
    if plan.folder(run).exists() and note.is_file() and note.read_text() != command:
        raise GridError(
            f"{plan.folder(run)} holds a run of another command; delete it to run the cell again\n"
            f"  there:  {note.read_text()}\n  wanted: {command}"
        )
    note.write_text(command)


def _read_result(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise GridError(f"the run ended without writing {path}")

    def refuse(constant: str) -> float:
        raise GridError(f"{path} holds {constant}: the run diverged; its record is not written")

    return json.loads(path.read_text(), parse_constant=refuse)


def _execute(command: list[str], log: Path) -> None:
    with log.open("a") as output:
        output.write(f"$ {shlex.join(command)}\n")
        output.flush()
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)

        def pass_on(signum: int, frame: FrameType | None) -> NoReturn:
            process.terminate()
            raise KeyboardInterrupt

        previous = signal.signal(signal.SIGTERM, pass_on)
        try:
            code = process.wait()
        except KeyboardInterrupt:  # the run was told as well (Ctrl-C by the terminal) and now writes its checkpoint
            process.wait(GRACE_S)
            raise
        finally:
            signal.signal(signal.SIGTERM, previous)
    if code:
        tail = "\n".join(f"  {line}" for line in log.read_text(errors="replace").splitlines()[-5:])
        raise GridError(f"a run failed with exit status {code}; run the grid again to resume it. Log: {log}, which ends\n{tail}")


def _log(plan: Plan, run: Run) -> Path:
    return plan.runs / plan.grid.name / "logs" / f"{run.name}.log"


def _flag(key: str, value: Any) -> list[str]:
    """Command-line form of one setting."""
    if isinstance(value, (list, tuple)):
        return [f"--{key}", *map(str, value)]
    return [f"--{key}", str(value)]


def _headline(plan: Plan, run: Run) -> str:
    evaluation = json.loads(plan.record(run).read_text())["result"].get("evaluation")
    return f", success {100 * evaluation['success']:.0f} %" if evaluation else ""


def _time_left(seconds: dict[str, list[float]], todo: Sequence[Run]) -> str:
    """Estimate from finished runs: of the same cell if there are any, else of all."""
    every = [s for values in seconds.values() for s in values]
    if not every or not todo:
        return ""
    known = [seconds.get(run.cell, every) for run in todo]
    left = sum(sum(values) / len(values) for values in known)
    return f" · about {left / 60:.0f} min left"


def _suggest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""
