"""Experiments as grids: every cell × training seed is one run, finished ones are small JSON files and are skipped.

`vla_rl.grid_file` says how a grid file looks.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from rich.console import Console

from vla_rl.grid_file import Grid, GridError, Run, dependencies, load_grid, order, suggest
from vla_rl.presets import read_yaml
from vla_rl.provenance import describe_environment

Execute = Callable[[list[str], Path], None]
"""Runs a command with its output appended to a log file; raises `GridError` if it fails."""

EVALUATION = "evaluation.json"

GRACE_S = 60.0
"""After Ctrl-C or SIGTERM, how long a run may take to write its checkpoint."""


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
        """What other runs need of this one, its dataset or its policy folder; the file of an evaluation."""
        names = {"collect": "dataset", "train": "policy", "evaluate": EVALUATION}
        return self.folder(run) / names[self.grid.cells[run.cell].kind]

    def record(self, run: Run) -> Path:
        """The small JSON file of the finished run."""
        return self.results / self.grid.name / f"{run.name}.json"

    def command(self, run: Run) -> list[str]:
        """Arguments of `vla-rl` that do the run."""
        cell, needed = self.grid.cells[run.cell], dependencies(self.grid, run)
        if cell.evaluate:
            settings = [token for key, value in cell.set.items() for token in _flag(key, value)]
            policy = str(self.folder(needed["evaluate"])) if needed else cell.evaluate
            return ["eval", policy, "--out", str(self.folder(run)), "--seed", str(run.seed), *settings]
        verb, preset, flag = ("collect", cell.collect, "--out") if cell.collect else ("train", cell.preset, "--run-dir")
        target = self.artefact(run) if cell.collect else self.folder(run)
        values = {key: str(self.artefact(needed[key])) if key in needed else value for key, value in cell.references.items()}
        settings = [token for key, value in {**values, **cell.set}.items() for token in _flag(key, value)]
        source = os.path.relpath(self.path.parent / (preset or ""))
        return [verb, source, flag, str(target), "--seed", str(run.seed), *settings]

    def preset(self, run: Run) -> dict[str, Any]:
        """Content of the run's preset, kept in its record: an edited preset makes another run."""
        cell = self.grid.cells[run.cell]
        return {} if cell.evaluate else read_yaml(self.path.parent / (cell.preset or cell.collect or ""))

    def portable_command(self, run: Run) -> str:
        """The command as recorded: the same wherever the run folders lie, seen from the folder that holds `configs/`."""
        verb, source, *rest = replace(self, runs=Path("runs")).command(run)
        if verb == "eval":
            return shlex.join(["vla-rl", verb, source, *rest])
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
            raise GridError(f"grid '{self.grid.name}' has no cell '{unknown[0]}'{suggest(unknown[0], list(self.grid.cells))}")
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
    folder, log, kind = plan.folder(run), _log(plan, run), plan.grid.cells[run.cell].kind
    resumed = folder.exists()
    log.parent.mkdir(parents=True, exist_ok=True)
    _claim_folder(plan, run)
    environment = describe_environment()
    begin = time.monotonic()
    execute([sys.executable, "-m", "vla_rl.cli", *plan.command(run), *(["--resume"] if resumed and kind == "train" else [])], log)
    elapsed = time.monotonic() - begin
    if not plan.artefact(run).exists():
        raise GridError(f"cell '{run.cell}' at seed {run.seed} ended without writing {plan.artefact(run)}; see {log}")
    record = {
        "grid": plan.grid.name,
        "cell": run.cell,
        "seed": run.seed,
        "kind": kind,
        "command": plan.portable_command(run),
        "preset": plan.preset(run),
        **environment,
        "minutes": round(elapsed / 60, 2),
        "resumed": resumed,
        "result": _result(plan, run, elapsed),
    }
    _require_same_result(plan, run, record)
    plan.record(run).parent.mkdir(parents=True, exist_ok=True)
    partial = plan.record(run).with_suffix(".partial")
    partial.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n")
    partial.replace(plan.record(run))
    return elapsed


def _require_same_result(plan: Plan, run: Run, record: dict[str, Any]) -> None:
    """A recorded run that was done again for its weights must end as recorded, or runs that start from it would not compare."""
    if not plan.record(run).is_file():
        return
    before = json.loads(plan.record(run).read_text())
    was, now = (r["result"].get("evaluation", {}).get("success") for r in (before, record))
    if was != now:
        shutil.rmtree(plan.artefact(run))
        others = [Run(cell, seed) for cell in plan.grid.cells for seed in plan.grid.seeds_of(cell)]
        after = [other.name for other in others if run in order(plan.grid, [other]) and plan.record(other).is_file()]
        raise GridError(
            f"{run.name} was run again for its weights and reached {now}, its record says {was} (then on {before['machine']}, now on"
            f" {record['machine']}): rounding differs between processors, and runs that start from it would not compare with recorded"
            f" ones; to start over here, delete the records of {', '.join(after)} in {plan.record(run).parent}"
        )


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


def _result(plan: Plan, run: Run, elapsed_s: float) -> dict[str, Any]:
    """What a finished run found."""
    match plan.grid.cells[run.cell].kind:
        case "collect":
            return {}
        case "train":
            return _read_result(plan.folder(run) / "result.json")
        case "evaluate":
            nothing = {"updates": 0, "episodes": 0, "decisions": 0, "teacher_queries": 0, "idle": 0, "curve": []}
            return {"evaluation": _read_result(plan.artefact(run)), "wall_s": elapsed_s, **nothing}


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
