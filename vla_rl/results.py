"""Results of finished runs, grouped by cell over training seeds, with intervals."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from pydantic import ValidationError

from policies.interface import UserError
from vla_rl.evaluate import Evaluation, TaskResult
from vla_rl.statistics import Interval, gap_closed, two_level_bootstrap, wilson


@dataclass(frozen=True)
class Result:
    """What one finished run left: of a cell, at one training seed."""

    cell: str
    seed: int
    evaluation: Evaluation
    episodes: int
    """Environment episodes used by training."""
    teacher_queries: int
    """Observations that the teacher was asked about."""
    updates: int
    minutes: float
    """Wall time of training."""
    curve: tuple[Mapping[str, float], ...]
    """Rows with `update`, `episodes`, `wall_s`, and `rollout_success` or `validation_success`; empty for offline training."""
    provenance: Mapping[str, Any]
    """Command, commit, versions, hardware, and the config where the run folder is at hand."""
    folder: Path | None
    """Run folder, if that is where the result was read."""


@dataclass(frozen=True)
class Summary:
    """One cell over its training seeds: a row of the table."""

    cell: str
    results: tuple[Result, ...]
    """In order of training seed."""
    success: Interval
    gap: Interval | None
    """Fraction of the gap between student and teacher closed; None for these two, or if it says nothing."""

    @property
    def seeds(self) -> tuple[int, ...]:
        """Training seeds."""
        return tuple(result.seed for result in self.results)

    def mean(self, budget: str) -> float:
        """Mean over seeds of a budget: episodes, teacher_queries, updates or minutes."""
        values = {
            "episodes": [r.episodes for r in self.results],
            "teacher_queries": [r.teacher_queries for r in self.results],
            "updates": [r.updates for r in self.results],
            "minutes": [r.minutes for r in self.results],
        }
        return float(np.mean(values[budget]))


def load_results(paths: Sequence[Path]) -> list[Result]:
    """Read run folders, records of grid cells, or folders that hold either.

    Raises:
        UserError: nothing found, a damaged file, NaN, or a named run without an evaluation.
    """
    results = [_read(source) for path in paths for source in _expand(path)]
    seen: set[tuple[str, int]] = set()
    for result in results:
        if (result.cell, result.seed) in seen:
            raise UserError(f"cell '{result.cell}' at seed {result.seed} was given twice; name each run once")
        seen.add((result.cell, result.seed))
    return results


def summarise(results: Iterable[Result], student: str | None = None, teacher: str | None = None) -> list[Summary]:
    """Group results by cell, with intervals: the student first, the teacher last, the others in order of appearance.

    Args:
        results: of any cells and seeds.
        student: cell that the others started from; with `teacher`, adds the fraction of the gap closed.
        teacher: cell that sets the other end of the gap; may have a single seed.

    Raises:
        UserError: a named cell is absent, evaluations differ in initial states, or cells that are
            compared pairwise have different training seeds.
    """
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.cell, []).append(result)
    cells = {name: tuple(sorted(group, key=lambda r: r.seed)) for name, group in groups.items()}
    first = next(iter(cells.values()))[0]
    for result in (result for group in cells.values() for result in group):
        first.evaluation.require_paired(result.evaluation, f"{_label(first)} and {_label(result)}")
    for name in (student, teacher):
        if name is not None and name not in cells:
            raise absent(name, cells)
    if (student is None) != (teacher is None):
        raise UserError("the fraction of the gap closed needs both a student and a teacher cell; name both or neither")
    names = sorted(cells, key=lambda name: (name == teacher, name != student))
    return [Summary(name, cells[name], success_interval(cells[name]), _gap(name, cells, student, teacher)) for name in names]


def success_interval(results: Sequence[Result]) -> Interval:
    """Mean success over tasks and training seeds: two-level bootstrap, never narrower than Wilson's over all episodes."""
    return _cautious([result.evaluation.array for result in results])


def task_interval(results: Sequence[Result], rows: str, task: str) -> Interval | None:
    """The same for one task; `rows` is tasks, shuffled or swapped. None where it was not evaluated."""
    kinds = {"tasks": lambda e: e.tasks, "shuffled": lambda e: e.shuffled, "swapped": lambda e: e.swapped}
    found: list[TaskResult] = [row for result in results for row in kinds[rows](result.evaluation) if row.task == task]
    return _cautious([row.array for row in found]) if found else None


def _cautious(outcomes: Sequence[np.ndarray]) -> Interval:
    """The bootstrap alone would give no width where every episode ends the same."""
    value, low, high = two_level_bootstrap(outcomes)
    pooled = np.concatenate([array.ravel() for array in outcomes])
    wilson_low, wilson_high = wilson(int(pooled.sum()), pooled.size)
    return Interval(value, min(low, wilson_low), max(high, wilson_high))


def _gap(name: str, cells: Mapping[str, tuple[Result, ...]], student: str | None, teacher: str | None) -> Interval | None:
    if student is None or teacher is None or name in (student, teacher):
        return None
    seeds = {cell: [r.seed for r in cells[cell]] for cell in (student, name, teacher)}
    if seeds[name] != seeds[student] or (len(seeds[teacher]) > 1 and seeds[teacher] != seeds[student]):
        raise UserError(
            f"the gap is compared seed by seed, but training seeds differ: {seeds}; "
            "finish the missing runs, leave the cell out, or name no student and teacher"
        )
    start, ours, end = ([r.evaluation.array for r in cells[cell]] for cell in (student, name, teacher))
    return gap_closed(start, ours, end)


def absent(cell: str, cells: Iterable[str]) -> UserError:
    """The error about a cell that no result belongs to."""
    return UserError(f"there is no cell '{cell}' among the results; there are {list(cells)}")


def _label(result: Result) -> str:
    return f"{result.cell}-s{result.seed}"


def _expand(path: Path) -> list[Path]:
    """Files to read for one argument: the path itself, or every finished run below a folder."""
    if path.is_file():
        return [path]
    if not path.exists():
        raise FileNotFoundError(f"no such run or record: {path}")
    if (path / "result.json").is_file():
        return [path / "result.json"]
    if (path / "config.yaml").is_file():
        raise UserError(f"{path} holds an unfinished run (no result.json); finish it with `vla-rl train ... --resume`")
    found = sorted(path.glob("*/result.json")) or [file for file in sorted(path.glob("*.json")) if read_json(file).get("kind") != "collect"]
    if not found:
        raise UserError(f"{path} holds neither a run (result.json), nor run folders, nor records of grid cells (*.json)")
    return found


def _read(path: Path) -> Result:
    """Read `result.json` of a run folder, or a cell's record."""
    if not path.is_file():
        raise UserError(f"{path.parent} holds no finished run: {path.name} is missing")
    tree = read_json(path)
    folder = None if "result" in tree else path.parent
    result = tree.get("result", tree)
    if "evaluation" not in result:
        raise UserError(f"{path} holds no evaluation; only finished training runs can be compared")
    match = re.fullmatch(r"(.+)-s(\d+)", path.parent.name if folder else path.stem)
    name, seed = (match[1], int(match[2])) if match else (path.parent.name if folder else path.stem, 0)
    try:
        return Result(
            cell=tree.get("cell", name),
            seed=tree.get("seed", seed),
            evaluation=Evaluation.model_validate(result["evaluation"]),
            episodes=result["episodes"],
            teacher_queries=result["teacher_queries"],
            updates=result["updates"],
            minutes=result["wall_s"] / 60,
            curve=tuple(result["curve"]),
            provenance=_provenance(folder) if folder else {key: value for key, value in tree.items() if key != "result"},
            folder=folder,
        )
    except KeyError as error:
        raise UserError(f"{path} lacks the key {error}; it was not written by `vla-rl train` or `vla-rl grid`") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{path}: evaluation.{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def _provenance(folder: Path) -> dict[str, Any]:
    environment, config = folder / "environment.jsonl", folder / "config.yaml"
    tree = json.loads(environment.read_text().splitlines()[-1]) if environment.is_file() else {}
    return tree | ({"config": config.read_text()} if config.is_file() else {})


def read_json(path: Path) -> dict[str, Any]:
    """JSON without NaN or infinity."""

    def refuse(constant: str) -> NoReturn:
        raise UserError(f"{path} holds {constant}: the run diverged and cannot be compared")

    try:
        tree = json.loads(path.read_text(), parse_constant=refuse)
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not valid JSON (line {error.lineno}): truncated? Run it again") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path} must hold a JSON object, got {type(tree).__name__}")
    return tree
