"""Grid files: the cells of an experiment and how they depend on one another.

A grid file names its cells and how they depend on one another:

    name: main
    seeds: [0, 1, 2]
    cells:
      demos:   {collect: ../collect/demos.yaml, seeds: [0]}
      teacher: {preset: ../sft.yaml, data: demos, seeds: [0]}
      student: {preset: ../sft.yaml, data: demos, set: {data.episodes_per_task: 2}}
      opd:     {preset: ../opd.yaml, init: student, teacher: teacher}
      dark:    {evaluate: opd, set: {sim.randomize.light.intensity: [0.3, 0.5]}}

A cell with `evaluate` evaluates another cell's policy elsewhere: in its own simulator, but for what `set` says; or it evaluates the
scripted experts (`evaluate: expert`).
A reference to a cell with one seed means that seed; otherwise the seed of the referring run.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from policies.interface import UserError
from vla_rl.config import Strict
from vla_rl.presets import read_yaml


class GridError(UserError):
    """A grid file is wrong, or one of its runs failed."""


class Cell(Strict):
    """One kind of run."""

    preset: Path | None = None
    """Training preset, relative to the grid file."""
    collect: Path | None = None
    """Preset of a data collection, relative to the grid file; instead of `preset`."""
    evaluate: str | None = None
    """Cell whose policy is evaluated once more, or `expert`; instead of `preset`."""
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
        if [self.preset, self.collect, self.evaluate].count(None) != 2:
            raise ValueError("a cell needs exactly one of preset, collect and evaluate")
        if not self.preset and (self.init or self.teacher or self.data):
            raise ValueError("only a cell that trains, with preset, has init, teacher or data")
        if not self.collect and self.policy:
            raise ValueError("only a cell that collects has a policy; one that trains starts from init")
        return self

    @property
    def kind(self) -> Literal["train", "collect", "evaluate"]:
        """What its runs do."""
        return "collect" if self.collect else "evaluate" if self.evaluate else "train"

    @property
    def references(self) -> dict[str, str]:
        """Setting → cell name or path, for those that are set."""
        values = {"init": self.init, "teacher": self.teacher, "data.path": self.data, "policy": self.policy, "evaluate": self.evaluate}
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
            raise GridError(f"{path}: unknown key '{where}'{suggest(where.rpartition('.')[2], known)}; known are {known}") from error
        raise GridError(f"{path}: {where}: {first['msg'].removeprefix('Value error, ')}, got {first['input']!r}") from error
    for name, cell in grid.cells.items():
        _check_cell(grid, name, cell, path)
    order(grid, [Run(name, seed) for name in grid.cells for seed in grid.seeds_of(name)])
    return grid


def _check_cell(grid: Grid, name: str, cell: Cell, path: Path) -> None:
    if not cell.evaluate and not (path.parent / (cell.preset or cell.collect or "")).is_file():
        raise GridError(f"{path}: cell '{name}': no such preset {path.parent / (cell.preset or cell.collect or '')}")
    for key, value in cell.references.items():
        other = grid.cells.get(value)
        if other is None and value != "expert" and "/" not in value:
            raise GridError(
                f"{path}: cell '{name}': {key} is '{value}', neither a cell nor a path (which has a slash)"
                f"{suggest(value, list(grid.cells))}; cells are {list(grid.cells)}"
            )
        if value == "expert" and key not in ("teacher", "evaluate"):
            raise GridError(f"{path}: cell '{name}': only teacher and evaluate can be 'expert', not {key}")
        if key == "evaluate" and other is None and value != "expert":
            raise GridError(f"{path}: cell '{name}': evaluate must name a cell; `vla-rl eval` evaluates any policy")
        if other is not None and other.kind != ("collect" if key == "data.path" else "train"):
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


def suggest(name: str, known: list[str]) -> str:
    """A hint at the nearest known name, or nothing."""
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""
