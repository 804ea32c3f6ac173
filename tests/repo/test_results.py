"""Committed results are those of the committed grids, from clean commits, and reach what the presets promise."""

from __future__ import annotations

import json
import operator
from pathlib import Path
from typing import Any

import pytest

from vla_rl.demo import GRIDS as DEMOS
from vla_rl.grid import Plan, Run, load_grid, order
from vla_rl.results import load_results, summarise

ROOT = Path(__file__).parents[2]
GRIDS = sorted((ROOT / "configs" / "grids").glob("*.yaml"))
COMPARE = {">=": operator.ge, "<=": operator.le}


def plan_of(path: Path) -> Plan:
    return Plan(load_grid(path), path, Path("runs"), ROOT / "configs" / "results")


def folder_of(plan: Plan) -> Path:
    return plan.results / plan.grid.name


def records(plan: Plan) -> dict[str, dict[str, Any]]:
    """Record by run name, of the finished runs. Refuses records of another command or preset."""
    runs = [
        run
        for run in order(plan.grid, [Run(cell, seed) for cell in plan.grid.cells for seed in plan.grid.seeds_of(cell)])
        if plan.finished(run)
    ]
    return {run.name: json.loads(plan.record(run).read_text()) for run in runs}


@pytest.mark.parametrize("path", GRIDS, ids=lambda path: path.stem)
def test_records_belong_to_the_grid_and_to_clean_commits(path: Path) -> None:
    plan = plan_of(path)
    found = records(plan)
    assert found, "every committed grid has been run"
    assert {file.stem for file in folder_of(plan).glob("*.json")} == set(found), "no record of a cell that the grid lacks"
    assert not [name for name, record in found.items() if record["dirty"] or not record["commit"]]


@pytest.mark.parametrize(("sim", "grid"), DEMOS.items())
def test_each_demo_improves_a_student_in_its_own_simulator(sim: str, grid: str) -> None:
    plan = plan_of(ROOT / "configs" / "grids" / f"{grid}.yaml")
    found = records(plan)
    success = {cell: found[f"{cell}-s0"]["result"]["evaluation"]["success"] for cell in ("student", "opd", "teacher")}
    assert success["student"] < success["opd"] and success["student"] < success["teacher"]
    assert all((f"--sim.backend {sim}" in record["command"]) == (sim != "metaworld") for record in found.values())


def test_the_main_job_reaches_what_its_presets_expect() -> None:
    plan = plan_of(ROOT / "configs" / "grids" / "main_job.yaml")
    summaries = summarise(load_results([folder_of(plan)]), "student", "teacher")
    checked = 0
    for summary in summaries:
        cell = plan.grid.cells[summary.cell]
        if cell.set:
            continue  # the preset promises nothing about a variation of it
        expected = records(plan)[f"{summary.cell}-s{summary.seeds[0]}"]["preset"].get("expect", {})
        reached = {"success": summary.success.value} | ({"gap_closed": summary.gap.value} if summary.gap else {})
        for name, bounds in expected.items():
            for bound in bounds.split(","):
                sign, value = bound.split()
                assert COMPARE[sign](reached[name], float(value)), f"{summary.cell}: {name} is {reached[name]:.3f}, expected {bound}"
                checked += 1
    assert checked >= 4
