"""Policies in virtual time: what delays do to chunks, on a robot that obeys physics."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from policies.action_map import ActionTerm
from policies.bundle import Bundle, ObservationTerm
from policies.deployed import Prefix
from policies.interface import ActionSpec, Entry, Observation, PolicySpec
from robot.blend_bench import Way, compare_blends
from robot.limiter import Motion
from robot.rehearsal import Course, rehearse
from tests.robot.plant import STEP_S, Plant
from tests.robot.session import FREE

TURN = 0.02
"""What the policy asks for, per step of 50 ms [rad]."""
STATE = Entry(name="observation.state", kind="state", shape=(1,), names=("joint1 [rad]",), low=(-3.0,), high=(3.0,))
ACTION = ActionSpec(names=("turn",), representation="delta", low=(-1.0,), high=(1.0,))
BUNDLE = Bundle(
    spec=PolicySpec(embodiment="arm7", entries=(STATE,), action=ACTION, control_hz=20.0, chunk=8, executed=4),
    observations=(ObservationTerm(name=STATE.name, scale=(1.0,), offset=(0.0,)),),
    action_map=(ActionTerm(name="turn", space="joint", target="joint1", kind="delta", unit="rad", scale=0.1),),
    noise_shape=None,
    delay_s=(0.0, 0.0),
    tolerance=1e-4,
    files={},
)


class Turning:
    """Turns joint 1 at a steady rate."""

    bundle = BUNDLE

    def __init__(self, takes_prefix: bool = False) -> None:
        self.takes_prefix = takes_prefix
        self.prefixes: list[Prefix | None] = []

    def chunk(self, observation: Observation, prefix: Prefix | None = None, seed: int = 0) -> np.ndarray:
        self.prefixes.append(prefix)
        return np.full((1, 8, 1), 10 * TURN, np.float32)


class PlantBody:
    """The plant of the runtime's tests, stepped by a rehearsal; the task is to turn joint 1 by 0.3 rad."""

    step_s = STEP_S

    def __init__(self) -> None:
        self._plant = Plant(FREE, FREE.home)
        self.home = FREE.home

    @property
    def over(self) -> bool:
        return bool(self._plant.position[0] > 0.3)

    def step(self, target: np.ndarray) -> None:
        self._plant.send(Motion.rest(target), damped=False)
        self._plant.advance(self._plant.time_s + STEP_S)

    def joints(self) -> tuple[np.ndarray, np.ndarray]:
        return self._plant.position, self._plant.velocity

    def image(self, camera: str) -> np.ndarray:
        raise AssertionError("the policy sees no camera")


def play(policy: Turning, delay_s: float, limit_s: float = 3.0) -> tuple[Course, PlantBody]:
    body = PlantBody()
    return rehearse(policy, FREE, body, "turn", lambda: delay_s, limit_s, "rtc" if policy.takes_prefix else "replace"), body


def test_without_delay_a_steady_turn_has_no_borders_to_feel() -> None:
    course, body = play(Turning(), 0.0)
    assert body.over and not course.faults and not course.rejected and course.starved_s == 0
    assert len(course.borders) >= 3 and max(np.abs(border.jump).max() for border in course.borders[2:]) < 1e-3, "after the ramp"
    turned = np.diff(np.array(course.positions)[:, 0])
    assert turned[-20:] == pytest.approx(TURN * 20 * FREE.period_s, rel=0.02)


def test_a_delay_within_the_chunk_starves_nobody() -> None:
    course, body = play(Turning(), 0.15)
    assert body.over and course.starved_s == 0
    assert all(border.age_s == pytest.approx(0.15, abs=FREE.period_s) for border in course.borders)


def test_a_chunk_that_ends_before_the_next_one_comes_starves() -> None:
    """With 0.25 s to think a chunk that covers 0.35 s is followed by one that comes 0.5 s after its observation."""
    prompt, late = play(Turning(), 0.15)[0], play(Turning(), 0.25)[0]
    assert not late.faults and not late.rejected and late.starved_s > 0.2
    assert len(late.positions) > 1.5 * len(prompt.positions)


def test_a_delay_beyond_the_chunk_ends_in_a_soft_stop() -> None:
    course, body = play(Turning(), 0.5)
    assert not body.over and [rejected.code for rejected in course.rejected] == ["expired"]
    assert len(course.faults) == 1 and "soft_stop" in course.faults[0] and "chunk_age" in course.faults[0]


def test_a_flow_policy_is_told_what_happens_while_it_thinks() -> None:
    policy = Turning(takes_prefix=True)
    course, _ = play(policy, 0.12)
    assert policy.prefixes[:2] == [None, None], "nothing is said yet, then the ramp is not what the chunk said"
    told = [prefix for prefix in policy.prefixes if prefix is not None]
    assert len(told) == course.continued >= 3
    for prefix in told:
        assert prefix.committed == 3 and len(prefix.actions) >= 4, "120 ms are three steps of 50 ms"
        assert prefix.actions[1:] == pytest.approx(10 * TURN, abs=1e-3)


def test_the_table_counts_what_happened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ways = {"replace": Way(Turning(), "replace"), "ensemble": Way(Turning(), "ensemble")}
    opened = lambda seed: (PlantBody(), "turn")  # noqa: E731
    cells = compare_blends(ways, FREE, opened, (0.0, 0.6), 0.0, (1, 2), 2.5, tmp_path / "blends.json")
    assert [(cell.way, cell.delay_s) for cell in cells] == [("replace", 0.0), ("ensemble", 0.0), ("replace", 0.6), ("ensemble", 0.6)]
    assert cells[0].outcomes == "11" and cells[0].success == 1 and cells[0].starved == 0 and cells[0].stops == 0
    assert 0 < cells[0].mean_border_jerk <= cells[0].border_jerk < 1 and cells[0].jump < 2 * TURN
    assert cells[2].outcomes == "00" and cells[2].stops == 2
    assert [row["way"] for row in json.loads((tmp_path / "blends.json").read_text())["cells"]] == [cell.way for cell in cells]
    assert "replace" in capsys.readouterr().out
