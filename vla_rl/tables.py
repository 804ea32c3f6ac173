"""Tables of text, for the terminal and as Markdown, and how numbers are written in them.

A table is a list of rows of equal length; the first row is the header, the first column is aligned left.
"""

from __future__ import annotations

from collections.abc import Sequence

from vla_rl.statistics import Interval

Rows = Sequence[Sequence[str]]


def markdown_table(rows: Rows) -> str:
    """The table as Markdown."""
    header, *body = rows
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def text_table(rows: Rows) -> str:
    """The table for the terminal."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))]) for row in rows]
    return "\n".join([lines[0], "─" * len(lines[0]), *lines[1:]])


def percent(rate: float) -> str:
    """`0.853` → `85 %`."""
    return f"{100 * rate:.0f} %"


def percent_range(interval: Interval) -> str:
    """`80 – 90 %`."""
    return f"{100 * interval.low:.0f} – {100 * interval.high:.0f} %"


def points(difference: float) -> str:
    """`-0.123` → `-12`: percentage points, always with a sign."""
    return f"{100 * difference:+.0f}"
