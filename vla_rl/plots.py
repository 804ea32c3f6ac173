"""Plots of training: success against budgets with bands over training seeds, and other curves."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vla_rl.metrics import METRICS
from vla_rl.results import Summary

Curve = Sequence[Mapping[str, float]]

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#555555")
"""Okabe and Ito's colours, distinct for colour-blind readers."""
MARKERS = "osD^vPX"
BUDGETS = {"episodes": "environment episodes", "update": "updates", "wall_s": "wall time [min]"}
WINDOW = 5
"""Updates over which rollout success is averaged for display."""
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.labelcolor": "#333333",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e3",
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "svg.fonttype": "path",
    "svg.hashsalt": "vla-rl",
}


def colour(index: int) -> str:
    """Colour of the cell at a position of the table."""
    return PALETTE[index % len(PALETTE)]


def plot_curves(summaries: Sequence[Summary]) -> str:
    """SVG text: success against episodes, updates and wall time side by side; empty if no cell has a curve."""
    if not any(_has_curve(s) for s in summaries):
        return ""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(12.5, 4.1), layout="constrained")
        for axes, budget in zip(figure.subplots(1, 3, sharey=True), BUDGETS, strict=True):
            _draw_success(axes, summaries, budget, references=budget == "wall_s")
        figure.axes[0].set_ylabel(_success_label(summaries))
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(5, len(labels)), frameon=False)
        return _svg(figure)


def plot_main_curve(summaries: Sequence[Summary], path: Path) -> None:
    """PNG of success against environment episodes; without any curve, of final success per cell."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.6, 4.4), layout="constrained", dpi=160)
        axes = figure.subplots()
        if any(_has_curve(s) for s in summaries):
            _draw_success(axes, summaries, "episodes", references=True)
            axes.set_ylabel(_success_label(summaries))
            axes.legend(loc="lower right", frameon=False)
        else:
            _draw_final(axes, summaries)
        figure.savefig(path)


def plot_metrics(summaries: Sequence[Summary]) -> dict[str, str]:
    """SVG text of every metric that some cell recorded in all its runs, by name; `NAME_steps` where it has denoising steps."""
    drawn: dict[str, str] = {}
    for name, label in METRICS.items():
        drawn[name], drawn[f"{name}_steps"] = plot_metric(summaries, name, label), plot_steps(summaries, name, label)
    return {name: svg for name, svg in drawn.items() if svg}


def plot_metric(summaries: Sequence[Summary], name: str, label: str) -> str:
    """SVG text of another entry of the curves against updates; empty if no run recorded it."""
    having = [(i, s) for i, s in enumerate(summaries) if all(any(name in row for row in r.curve) for r in s.results)]
    if not having:
        return ""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.1, 3.4), layout="constrained")
        axes = figure.subplots()
        for index, summary in having:
            curves = [_points(r.curve, "update", name) for r in summary.results]
            _band(axes, curves, colour(index), summary.cell)
        axes.set(xlabel="updates", ylabel=label)
        _from_zero(axes)
        axes.legend(frameon=False)
        return _svg(figure)


def plot_steps(summaries: Sequence[Summary], name: str, label: str) -> str:
    """SVG text of a metric at each denoising step, mean of the last updates and of seeds; empty if no run recorded it."""
    steps = {summary.cell: step_means(summary, name) for summary in summaries}
    if not any(steps.values()):
        return ""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.1, 3.4), layout="constrained")
        axes = figure.subplots()
        for index, (cell, found) in enumerate(steps.items()):
            if found:
                axes.plot(
                    list(found), list(found.values()), color=colour(index), marker=MARKERS[index % len(MARKERS)], linewidth=2.1, label=cell
                )
        axes.set(xlabel=f"denoising step, 0 at pure noise (last {WINDOW} updates)", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _from_zero(axes)
        axes.legend(frameon=False)
        return _svg(figure)


def step_means(summary: Summary, name: str) -> dict[int, float]:
    """Denoising step → mean of a metric over the last updates of all runs of a cell; empty where it has no steps."""
    rows = [row for result in summary.results for row in result.curve[-WINDOW:]]
    prefix = f"{name}_step"
    steps = sorted({int(key.removeprefix(prefix)) for row in rows for key in row if key.startswith(prefix)})
    return {step: float(np.mean([row[f"{prefix}{step}"] for row in rows if f"{prefix}{step}" in row])) for step in steps}


def _from_zero(axes: Axes) -> None:
    """Begin at zero where nothing is negative; entropies of densities may be."""
    if axes.dataLim.y0 >= 0:
        axes.set_ylim(bottom=0)


def _draw_success(axes: Axes, summaries: Sequence[Summary], budget: str, references: bool) -> None:
    """Curves with bands, final test success as markers with intervals, cells without a curve as dashed lines."""
    scale = 1 / 60 if budget == "wall_s" else 1.0
    validated = _validated(summaries)
    for index, summary in enumerate(summaries):
        shade, value = colour(index), 100 * summary.success.value
        if not _has_curve(summary):
            axes.axhline(value, color=shade, linestyle=(0, (5, 3)), linewidth=1.4)
            continue
        curves = [(x * scale, 100 * y) for x, y in (_success_points(r.curve, budget, validated) for r in summary.results)]
        end = _band(axes, curves, shade, summary.cell)
        errors = [[value - 100 * summary.success.low], [100 * summary.success.high - value]]
        axes.errorbar(
            end, value, yerr=errors, color=shade, marker=MARKERS[index % len(MARKERS)], markersize=6, capsize=3,
            markeredgecolor="white", linewidth=1.3, zorder=5, clip_on=False,
        )  # fmt: skip
    axes.set(xlabel=BUDGETS[budget], ylim=(0, 103))
    axes.set_xlim(left=0)
    if references:
        _label_references(axes, summaries)


def _label_references(axes: Axes, summaries: Sequence[Summary], apart: float = 5.0) -> None:
    """Name the dashed lines at the right edge, moved apart where they nearly coincide [percentage points]."""
    lowest = -apart
    for value, name, shade in sorted((100 * s.success.value, s.cell, colour(i)) for i, s in enumerate(summaries) if not _has_curve(s)):
        lowest = max(value, lowest + apart)
        axes.annotate(
            f"{name} {value:.0f} %", (1, lowest), xycoords=("axes fraction", "data"), xytext=(5, 0), textcoords="offset points",
            color=shade, fontsize=9, va="center", annotation_clip=False,
        )  # fmt: skip


def _draw_final(axes: Axes, summaries: Sequence[Summary]) -> None:
    for index, summary in enumerate(summaries):
        value, low, high = (100 * x for x in summary.success)
        axes.bar(index, value, color=colour(index), alpha=0.85, width=0.6)
        axes.errorbar(index, value, yerr=[[value - low], [high - value]], color="#333333", capsize=4, linewidth=1.3)
    axes.set_xticks(range(len(summaries)), [s.cell for s in summaries])
    axes.set(ylim=(0, 103), ylabel="success on test seeds [%]")
    axes.grid(axis="x", visible=False)


def _band(axes: Axes, curves: Sequence[tuple[np.ndarray, np.ndarray]], shade: str, label: str) -> float:
    """Mean over seeds with the range over seeds; returns the mean end of the curves."""
    first, last = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    grid = np.linspace(first, last, 200)
    values = np.stack([np.interp(grid, x, y) for x, y in curves])
    axes.fill_between(grid, values.min(0), values.max(0), color=shade, alpha=0.16, linewidth=0)
    axes.plot(grid, values.mean(0), color=shade, linewidth=2.1, label=label)
    return float(np.mean([x[-1] for x, _ in curves]))


def _has_curve(summary: Summary) -> bool:
    return all(result.curve for result in summary.results)


def _validated(summaries: Sequence[Summary]) -> bool:
    """Whether every run with a curve measured validation success while training; else all are drawn from rollouts."""
    runs = [r for s in summaries if _has_curve(s) for r in s.results]
    return all(any("validation_success" in row for row in r.curve if row["update"]) for r in runs)


def _success_label(summaries: Sequence[Summary]) -> str:
    return "validation success [%]" if _validated(summaries) else f"rollout success [%], mean of {WINDOW} updates"


def _success_points(curve: Curve, budget: str, validated: bool) -> tuple[np.ndarray, np.ndarray]:
    if validated:
        return _points(curve, budget, "validation_success")
    x, y = _points(curve, budget, "rollout_success")
    return x, np.array([y[max(0, i - WINDOW + 1) : i + 1].mean() for i in range(len(y))])


def _points(curve: Curve, budget: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    rows = [row for row in curve if name in row]
    return np.array([row[budget] for row in rows]), np.array([row[name] for row in rows])


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
