"""One self-contained HTML page about a set of runs: table, curves, per-task results, videos, provenance."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

import yaml

from vla_rl.compare import table_rows
from vla_rl.plots import colour, plot_curves, plot_metrics
from vla_rl.results import Summary, task_interval
from vla_rl.statistics import Interval
from vla_rl.tables import Rows, percent, percent_range

TASK_TABLES = {
    "tasks": ("Per task", "Bar: success; black line: 95 % interval; small print: mean control steps of successful episodes."),
    "shuffled": (
        "With the instruction of another task",
        "The scene's own task is scored: success here means that the scene alone gives the task away.",
    ),
    "swapped": (
        "With the instruction of the task that shares the scene",
        "Here only the instruction says what to do, so a policy that reads it hardly ever does the other task.",
    ),
}

CSS = """
:root { --ink: #23241f; --soft: #6d6e67; --line: #e4e3dd; --paper: #fbfaf7; --card: #ffffff }
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif }
main { max-width: 1120px; margin: 0 auto; padding: 40px 24px 80px }
h1 { font-size: 30px; line-height: 1.2; letter-spacing: -.015em; margin: 0 0 6px }
h2 { font-size: 19px; margin: 44px 0 10px }
p.note { color: var(--soft); margin: 4px 0 14px; max-width: 78ch }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(165px, 1fr)); gap: 14px; margin: 24px 0 8px }
.tile { background: var(--card); border: 1px solid var(--line); border-top: 4px solid var(--shade); border-radius: 8px; padding: 12px 16px }
.tile b { display: block; font-size: 32px; line-height: 1.15; letter-spacing: -.02em }
.tile span { color: var(--soft); font-size: 13px }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 8px }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { padding: 8px 12px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line) }
th { color: var(--soft); font-weight: 600; font-size: 13px }
th:first-child, td:first-child { text-align: left }
tr:last-child td { border-bottom: 0 }
tr.mean td { font-weight: 600; border-top: 2px solid var(--line) }
.dot { display: inline-block; width: 10px; height: 10px; border-radius: 50%; background: var(--shade); margin-right: 8px }
.bar { position: relative; height: 6px; background: #efeee9; border-radius: 3px; margin-top: 4px; min-width: 120px }
.bar i { position: absolute; inset: 0 auto 0 0; background: var(--shade); border-radius: 3px }
.bar u { position: absolute; top: 2px; height: 2px; background: #23241f; opacity: .75 }
small { color: var(--soft) }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 12px }
figure img { width: 100%; display: block }
figcaption { color: var(--soft); font-size: 13px; margin-bottom: 6px }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(380px, 1fr)); gap: 14px }
video { width: 220px; display: block; border-radius: 6px; background: #eee }
.films td, .films th { text-align: left; vertical-align: top }
details { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 10px 16px; margin: 8px 0 }
summary { cursor: pointer; font-weight: 600 }
pre { overflow-x: auto; font-size: 12.5px; line-height: 1.45; margin: 10px 0 }
"""


def render_report(
    summaries: Sequence[Summary], title: str, paired: Rows | None = None, reached: Rows | None = None, costs: str = ""
) -> str:
    """The page as text.

    Args:
        summaries: cells in the order to show.
        title: heading of the page.
        paired: table of two cells at equal budgets.
        reached: table of the episodes that a level takes.
        costs: a sentence about what the table of results leaves out.
    """
    parts = [f"<h1>{escape(title)}</h1>", _intro(summaries), _tiles(summaries), _overview(summaries, costs)]
    parts += [_curves(summaries), _paired(paired), _reached(reached)]
    parts += [_tasks(summaries, rows) for rows in ("tasks", "shuffled", "swapped")]
    parts += [_films(summaries), _sheets(summaries), _provenance(summaries)]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{CSS}</style></head>\n<body><main>\n" + "\n".join(part for part in parts if part) + "\n</main></body></html>\n"
    )


def _intro(summaries: Sequence[Summary]) -> str:
    first = summaries[0].results[0].evaluation
    seeds = max(len(s.results) for s in summaries)
    tasks, episodes = len(first.tasks), len(first.tasks[0].steps)
    runs = f"up to {seeds} training seeds" if seeds > 1 else "one training seed"
    return (
        f'<p class="note">{tasks} tasks, {episodes} {escape(first.split)} episodes each from initial states that training never saw, '
        f"{runs}. Success means that the task was achieved at some step before the time limit.</p>"
    )


def _tiles(summaries: Sequence[Summary]) -> str:
    tiles = [
        f'<div class="tile" style="--shade:{colour(i)}"><b>{percent(s.success.value)}</b>{escape(s.cell)}<br>'
        f"<span>{percent_range(s.success)}</span></div>"
        for i, s in enumerate(summaries)
    ]
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _overview(summaries: Sequence[Summary], costs: str) -> str:
    header, *rows = table_rows(summaries)
    body = [
        f'<tr><td><span class="dot" style="--shade:{colour(i)}"></span>{escape(row[0])}</td>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for i, row in enumerate(rows)
    ]
    note = (
        "Intervals cover 95 %: resampled over training seeds and then episodes, and never narrower than Wilson's. "
        "Episodes, teacher queries, updates and minutes are what training alone used, averaged over seeds."
    )
    return f'<h2>Results</h2><p class="note">{escape(f"{note} {costs}")}</p>{_table(header, body)}'


def _paired(rows: Rows | None) -> str:
    if rows is None:
        return ""
    note = (
        "Differences in percentage points, at equal environment episodes, paired by training seed (and, on test seeds, by initial state, "
        "with a 95 % interval)."
    )
    return f'<h2>{escape(rows[0][2])} against {escape(rows[0][3])}</h2><p class="note">{note}</p>{_plain_table(rows)}'


def _reached(rows: Rows | None) -> str:
    if rows is None:
        return ""
    note = "The first validation that is not below the level; &gt; N: not within N episodes."
    return f'<h2>Budget of a level</h2><p class="note">{note}</p>{_plain_table(rows)}'


def _plain_table(rows: Rows) -> str:
    header, *body = rows
    return _table(header, ["<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in body])


def _table(header: Sequence[str], body: Sequence[str], kind: str = "") -> str:
    cells = "".join(f"<th>{escape(name)}</th>" for name in header)
    return f'<div class="scroll"><table class="{kind}"><thead><tr>{cells}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'


def _curves(summaries: Sequence[Summary]) -> str:
    main = plot_curves(summaries)
    if not main:
        return ""
    metrics = plot_metrics(summaries).values()
    note = (
        "Lines: mean over training seeds; bands: their range. Marker: final success on the evaluation's seeds with its interval. "
        "Dashed: cells without rollouts in training."
    )
    figures = "".join(f"<figure>{_image(svg.encode(), 'svg+xml')}</figure>" for svg in metrics)
    extra = f'<h2>Entropy, divergence and alarms</h2><div class="pair">{figures}</div>' if metrics else ""
    return f'<h2>Success while training</h2><p class="note">{note}</p><figure>{_image(main.encode(), "svg+xml")}</figure>{extra}'


def _tasks(summaries: Sequence[Summary], rows: str) -> str:
    """Table of tasks × cells, for the right (`tasks`) or wrong (`shuffled`, `swapped`) instructions."""
    names = [task.task for task in summaries[0].results[0].evaluation.tasks]
    cells = {name: [task_interval(s.results, rows, name) for s in summaries] for name in names}
    body = []
    for name, intervals in cells.items():
        if any(intervals):
            steps = [_steps(s, name) if rows == "tasks" else "" for s in summaries]
            drawn = "".join(_bar(interval, i, steps[i]) for i, interval in enumerate(intervals))
            body.append(f"<tr><td>{escape(name)}</td>{drawn}</tr>")
    if not body:
        return ""
    if rows == "tasks":
        body.append('<tr class="mean"><td>mean</td>' + "".join(_bar(s.success, i, "") for i, s in enumerate(summaries)) + "</tr>")
    title, note = TASK_TABLES[rows]
    return f'<h2>{title}</h2><p class="note">{note}</p>{_table(["task", *(s.cell for s in summaries)], body)}'


def _steps(summary: Summary, task: str) -> str:
    found = [t.mean_steps_to_success for r in summary.results for t in r.evaluation.tasks if t.task == task]
    known = [steps for steps in found if steps is not None]
    return f"· {sum(known) / len(known):.0f} steps" if known else ""


def _bar(interval: Interval | None, index: int, small: str) -> str:
    if interval is None:
        return "<td>–</td>"
    value, low, high = (100 * x for x in interval)
    return (
        f"<td>{percent(interval.value)} <small>({percent_range(interval)}) {small}</small>"
        f'<div class="bar" style="--shade:{colour(index)}"><i style="width:{value:.1f}%"></i>'
        f'<u style="left:{low:.1f}%;width:{high - low:.1f}%"></u></div></td>'
    )


def _films(summaries: Sequence[Summary]) -> str:
    """Videos side by side: tasks × cells, the first recorded initial state of each task."""
    films = {s.cell: _videos(s) for s in summaries}
    shown = [(i, s) for i, s in enumerate(summaries) if films[s.cell]]
    if not shown:
        return ""
    body = []
    for task in (t.task for t in summaries[0].results[0].evaluation.tasks):
        cells = [_film(films[s.cell][task]) if task in films[s.cell] else "–" for _, s in shown]
        if any(task in films[s.cell] for _, s in shown):
            body.append(f"<tr><td>{escape(task)}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    note = "Each row starts from the same initial state; the first training seed of each cell."
    return f'<h2>Rollouts</h2><p class="note">{note}</p>{_table(["task", *(s.cell for _, s in shown)], body, "films")}'


def _videos(summary: Summary) -> dict[str, Path]:
    """Task → its first video, of the first training seed."""
    folder = summary.results[0].folder
    found: dict[str, Path] = {}
    for path in sorted((folder / "evaluation" / "videos").glob("*.mp4")) if folder else ():
        found.setdefault(path.stem.rpartition("-")[0], path)
    return found


def _film(path: Path) -> str:
    return f'<video src="data:video/mp4;base64,{_base64(path.read_bytes())}" autoplay loop muted playsinline></video>'


def _sheets(summaries: Sequence[Summary]) -> str:
    found = [(s.cell, s.results[0].folder / "evaluation" / "contact_sheet.png") for s in summaries if s.results[0].folder]
    figures = [
        f"<figure><figcaption>{escape(cell)}</figcaption>{_image(path.read_bytes(), 'png')}</figure>"
        for cell, path in found
        if path.is_file()
    ]
    note = "Last frames of the first evaluation episodes. Green border: success; red: none."
    return f'<h2>Last frames</h2><p class="note">{note}</p><div class="pair">{"".join(figures)}</div>' if figures else ""


def _provenance(summaries: Sequence[Summary]) -> str:
    blocks = []
    for result in (result for summary in summaries for result in summary.results):
        config = result.provenance.get("config", "")
        about = {key: value for key, value in result.provenance.items() if key != "config"}
        text = yaml.safe_dump(about, sort_keys=False, allow_unicode=True) + (f"\n# config.yaml\n{config}" if config else "")
        dirty = " + local changes" if about.get("dirty") else ""
        commit = f"{str(about['commit'])[:10]}{dirty}" if about.get("commit") else "no commit"
        blocks.append(
            f"<details><summary>{escape(result.cell)}, seed {result.seed} · {commit}</summary><pre>{escape(text)}</pre></details>"
        )
    return "<h2>Where these numbers come from</h2>" + "".join(blocks)


def _image(data: bytes, kind: str) -> str:
    return f'<img alt="" src="data:image/{kind};base64,{_base64(data)}">'


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
