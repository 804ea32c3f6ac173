"""How chunks take over from each other, compared on one simulated robot in virtual time: every way × every delay × episodes.

The same episodes, delays and noise for every way; `vla-rl bench blends` prints the table and writes the numbers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from policies.deployed import DeployedPolicy
from robot.chunks import Blend
from robot.profile import RobotProfile
from robot.rehearsal import Body, Course, rehearse

TABLE_WIDTH = 110
"""Characters; a narrower terminal wraps lines rather than losing columns."""
Opened = tuple[Body, str]
"""A body at the start of an episode, and its instruction."""


@dataclass(frozen=True)
class Way:
    """A policy and how its chunks take over."""

    policy: DeployedPolicy
    blend: Blend


@dataclass(frozen=True)
class Cell:
    """One way at one delay."""

    way: str
    delay_s: float
    outcomes: str
    """`1` for each solved episode, in order of the seeds."""
    border_jerk: float
    """Largest of any joint where a chunk took over [share of the joint's limit]."""
    mean_border_jerk: float
    jump: float
    """Largest difference between what the new chunk and the old one want at a border [unit]."""
    continued: float
    """Share of chunks that continue the one before: none where the robot cannot follow what chunks ask for."""
    starved: float
    """Share of the time without a step to follow."""
    rejected: int
    """Chunks that came too late, or were refused."""
    stops: int
    """Soft stops and faults."""

    @property
    def success(self) -> float:
        """Share of solved episodes."""
        return self.outcomes.count("1") / len(self.outcomes)


def compare_blends(
    ways: Mapping[str, Way],
    profile: RobotProfile,
    open_episode: Callable[[int], Opened],
    delays_s: Sequence[float],
    jitter: float,
    seeds: Sequence[int],
    limit_s: float,
    out: Path | None = None,
    about: Mapping[str, Any] | None = None,
) -> list[Cell]:
    """Run the grid and print its table: border jerk as a share of the joints' limits, jump in their units.

    Args:
        ways: by name.
        profile: the robot.
        open_episode: starts the episode of a seed.
        delays_s: mean times from observation to chunk.
        jitter: each delay is drawn between (1 − jitter) and (1 + jitter) of the mean.
        seeds: of the episodes.
        limit_s: time for each.
        out: file for the numbers.
        about: what it says besides, such as the commit.
    """
    cells, console = list[Cell](), Console(highlight=False)
    jerk = np.array([joint.jerk for joint in profile.joints])
    with console.status("") as status:
        for delay_s in delays_s:
            for name, way in ways.items():
                outcomes, courses = "", list[Course]()
                for i, seed in enumerate(seeds):
                    status.update(f"{name}, {1e3 * delay_s:.0f} ms: episode {i + 1} of {len(seeds)}, {outcomes.count('1')} solved")
                    body, instruction = open_episode(seed)
                    draw = _delays(delay_s, jitter, seed)
                    courses.append(rehearse(way.policy, profile, body, instruction, draw, limit_s, way.blend))
                    outcomes += "1" if body.over else "0"
                cells.append(_cell(name, delay_s, outcomes, courses, jerk, profile.period_s))
    Console(highlight=False, width=max(console.width, TABLE_WIDTH)).print(_table(cells))
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps({**(about or {}), "cells": [asdict(cell) for cell in cells]}, indent=1) + "\n")
    return cells


def _delays(mean_s: float, jitter: float, seed: int) -> Callable[[], float]:
    random = np.random.default_rng([seed, 3])
    return lambda: mean_s * float(random.uniform(1 - jitter, 1 + jitter))


def _cell(name: str, delay_s: float, outcomes: str, courses: Sequence[Course], jerk: np.ndarray, period_s: float) -> Cell:
    borders = [border for course in courses for border in course.borders[1:]]  # the first starts from rest
    peaks = np.array([np.abs(border.peak_jerk / jerk).max() for border in borders] or [0.0])
    moving = sum(len(course.positions) for course in courses) * period_s
    return Cell(
        way=name,
        delay_s=delay_s,
        outcomes=outcomes,
        border_jerk=float(peaks.max()),
        mean_border_jerk=float(peaks.mean()),
        jump=float(max((np.abs(border.jump).max() for border in borders), default=0.0)),
        continued=sum(course.continued for course in courses) / max(len(borders), 1),
        starved=sum(course.starved_s for course in courses) / max(moving, period_s),
        rejected=sum(len(course.rejected) for course in courses),
        stops=sum(len(course.faults) for course in courses),
    )


def _table(cells: Sequence[Cell]) -> Table:
    table = Table("delay", "way", "solved", "border jerk", "mean", "jump", "continued", "starved", "late", "stops", box=SIMPLE_HEAD)
    for cell in cells:
        table.add_row(
            f"{1e3 * cell.delay_s:.0f} ms",
            cell.way,
            f"{100 * cell.success:.0f} %",
            f"{100 * cell.border_jerk:.0f} %",
            f"{100 * cell.mean_border_jerk:.1f} %",
            f"{cell.jump:.3f}",
            f"{100 * cell.continued:.0f} %",
            f"{100 * cell.starved:.1f} %",
            str(cell.rejected),
            str(cell.stops),
        )
    return table
