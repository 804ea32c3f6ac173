"""Comparing cells: tables of success, of equal budgets, of the budget that a level takes, and of tasks; the HTML report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from policies.interface import UserError
from vla_rl.results import Result, Summary, absent, load_results, read_json, summarise, task_interval
from vla_rl.statistics import paired_difference
from vla_rl.tables import markdown_table, percent, percent_range, points, text_table


def table_rows(summaries: Sequence[Summary]) -> list[list[str]]:
    """Header and one row per cell, as text."""
    gaps = any(summary.gap for summary in summaries)
    header = ["cell", "success", "95 % interval", "per seed", "episodes", "teacher queries", "updates", "minutes"]
    rows = [[*header, "gap closed"] if gaps else header]
    for summary in summaries:
        row = [summary.cell, percent(summary.success.value), percent_range(summary.success)]
        row.append(" · ".join(f"{100 * r.evaluation.success:.0f}" for r in summary.results))
        row += [f"{summary.mean(budget):,.0f}" for budget in ("episodes", "teacher_queries", "updates")]
        row.append(f"{summary.mean('minutes'):.1f}")
        if gaps:
            row.append(f"{percent(summary.gap.value)} ({percent_range(summary.gap)})" if summary.gap else "–")
        rows.append(row)
    return rows


def paired_rows(ours: Summary, theirs: Summary) -> list[list[str]]:
    """Two cells at equal budgets, as text: validation success at each update that both measured, then test success.

    Validation differences are given seed by seed; the test difference [percentage points], of all tasks and
    of each, is paired by training seed and initial state, with its two-level bootstrap interval.

    Raises:
        UserError: the cells have different training seeds.
    """
    if ours.seeds != theirs.seeds:
        given = f"{list(ours.seeds)} and {list(theirs.seeds)}"
        raise UserError(f"'{ours.cell}' and '{theirs.cell}' are compared seed by seed, but have training seeds {given}")
    rows = [["at", "episodes", ours.cell, theirs.cell, "difference", "per seed"]]
    curves = [[_validations(result) for result in side.results] for side in (ours, theirs)]
    for update in sorted(set.intersection(*(set(curve) for side in curves for curve in side))):
        (episodes, _), a, b = curves[0][0][update], *(np.array([curve[update][1] for curve in side]) for side in curves)
        rows.append([f"update {update}, validation", f"{episodes:,.0f}", percent(a.mean()), percent(b.mean()), points((a - b).mean())])
        rows[-1].append(" · ".join(points(x) for x in a - b))
    a, b = ([result.evaluation.array for result in side.results] for side in (ours, theirs))
    rows.append(_test_row("end, test", ours, theirs, a, b))
    tasks = [task.task for task in ours.results[0].evaluation.tasks]
    if len(tasks) > 1:
        for t, task in enumerate(tasks):
            rows.append(_test_row(f"end, test, {task}", ours, theirs, [x[t : t + 1] for x in a], [y[t : t + 1] for y in b]))
    return rows


def _test_row(label: str, ours: Summary, theirs: Summary, a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> list[str]:
    """A row of `paired_rows` from test outcomes `(tasks, episodes)` per training seed."""
    test = paired_difference(a, b)
    row = [label, f"{ours.mean('episodes'):,.0f}", percent(float(np.mean(a))), percent(float(np.mean(b)))]
    row.append(f"{points(test.value)} ({points(test.low)} to {points(test.high)})")
    return [*row, " · ".join(points(x.mean() - y.mean()) for x, y in zip(a, b, strict=True))]


def reach_rows(summaries: Sequence[Summary], reference: Summary) -> list[list[str]]:
    """Environment episodes that each cell took to reach the reference's last validation success, as text.

    The level is the reference's mean over its training seeds; a cell reaches it with its own mean, and seed by seed, at the
    first validation that is not below. What never did is censored: `> N` episodes.

    Raises:
        UserError: the reference was never validated.
    """
    measured = [_validations(result) for result in reference.results]
    if not all(measured):
        raise UserError(f"cell '{reference.cell}' was never validated in training, so it has no level to reach; set validate_every")
    level = float(np.mean([curve[max(curve)][1] for curve in measured]))
    rows = [["cell", f"episodes to {percent(level)} on validation", "per seed", "last validation"]]
    for summary in summaries:
        curves = [sorted(_validations(result).values()) for result in summary.results]
        if not all(curves):
            continue
        steps = list(zip(*curves, strict=False))  # seeds validate at the same updates
        mean = [(float(np.mean([n for n, _ in step])), float(np.mean([rate for _, rate in step]))) for step in steps]
        rows.append([summary.cell, _first_at(mean, level), " · ".join(_first_at(curve, level) for curve in curves), percent(mean[-1][1])])
    return rows


def _first_at(curve: Sequence[tuple[float, float]], level: float) -> str:
    """Episodes at the first point of `(episodes, success)` that is not below the level; censored where there is none."""
    reached = [episodes for episodes, rate in curve if rate >= level - 1e-9]
    return f"{reached[0]:,.0f}" if reached else f"> {curve[-1][0]:,.0f}"


def task_rows(summaries: Sequence[Summary], teacher: str | None = None) -> list[list[str]]:
    """Test success of each cell task by task, as text; with a teacher, on how many tasks a cell is ahead of it."""
    tasks = [row.task for row in summaries[0].results[0].evaluation.tasks]
    rates = {s.cell: [found.value for task in tasks if (found := task_interval(s.results, "tasks", task))] for s in summaries}
    rows = [["cell", *tasks, *(["ahead of the teacher"] if teacher else [])]]
    for cell, values in rates.items():
        rows.append([cell, *map(percent, values)])
        if teacher:
            ahead = sum(ours > theirs + 1e-9 for ours, theirs in zip(values, rates[teacher], strict=True))
            rows[-1].append("–" if cell == teacher else f"{ahead} of {len(tasks)}")
    return rows


def collection_costs(paths: Sequence[Path]) -> str:
    """Minutes of the data collections recorded beside the runs, as one sentence; empty if there are none."""
    trees = [read_json(file) for path in paths if path.is_dir() for file in sorted(path.glob("*.json"))]
    costs = [f"{tree['cell']} {tree['minutes']:.1f} min" for tree in trees if tree.get("kind") == "collect"]
    return f"Data was collected beforehand, which the table does not count: {', '.join(costs)}." if costs else ""


def _validations(result: Result) -> dict[int, tuple[float, float]]:
    """Update → (environment episodes, validation success), where it was measured."""
    measured = [row for row in result.curve if "validation_success" in row]
    return {int(row["update"]): (row["episodes"], row["validation_success"]) for row in measured}


def compare(
    paths: Sequence[Path],
    out: Path,
    student: str | None = None,
    teacher: str | None = None,
    pair: tuple[str, str] | None = None,
    reach: str | None = None,
) -> None:
    """Print the table over cells and write `report.html`, `table.md`, `curve.png` and an SVG per metric into the folder `out`.

    Args:
        paths: run folders, cell records, or folders holding either.
        out: folder, created if needed.
        student: cell that training started from; with `teacher`, adds the fraction of the gap closed.
        teacher: cell at the other end of the gap.
        pair: two cells to set against each other at every budget.
        reach: cell whose last validation success is the level that the others' episodes are counted to.
    """
    from vla_rl.plots import plot_main_curve, plot_metrics
    from vla_rl.report import render_report

    summaries = summarise(load_results(paths), student, teacher)
    tables = [table_rows(summaries), task_rows(summaries, teacher)]
    paired = paired_rows(_named(summaries, pair[0]), _named(summaries, pair[1])) if pair else None
    reached = reach_rows(summaries, _named(summaries, reach)) if reach else None
    tables += [rows for rows in (paired, reached) if rows]
    costs = collection_costs(paths)
    print("\n\n".join([*(text_table(rows) for rows in tables), costs]))
    out.mkdir(parents=True, exist_ok=True)
    (out / "table.md").write_text("\n".join([*(markdown_table(rows) for rows in tables), costs]).rstrip() + "\n")
    plot_main_curve(summaries, out / "curve.png")
    for name, svg in plot_metrics(summaries).items():
        (out / f"{name}.svg").write_text(svg)
    title = "Comparison of " + ", ".join(s.cell for s in summaries)
    (out / "report.html").write_text(render_report(summaries, title, paired, reached, costs))
    print(f"report {out / 'report.html'}, table {out / 'table.md'}, plot {out / 'curve.png'}")


def _named(summaries: Sequence[Summary], cell: str) -> Summary:
    found = {summary.cell: summary for summary in summaries}
    if cell not in found:
        raise absent(cell, found)
    return found[cell]
