"""What the misbehaving commander sends, and what is made of what happened: pure functions."""

from __future__ import annotations

import json
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs the ros extra: pip install 'vla-rl[ros]'")

from robot.ros2.chunks import ChunkError, to_chunk, to_message
from robot.ros2.faults import bench, sweep
from robot.ros2.faults.catalogue import FAULTS, Fault, chosen
from robot.ros2.faults.cell import MOVING, Moment
from tests.robot.session import ARM7

CENTRE = np.array([joint.home for joint in ARM7.joints])
PLAIN = sweep.swept(ARM7, CENTRE, sweep.STEP_S * np.arange(sweep.STEPS))
NEVER_REFUSED = {"stale", "future", "zero_stamp", "other_order"}
"""By their form: times are judged by the scheduler, an order is as good as another."""


def test_chunks_agree_where_they_overlap():
    later = sweep.swept(ARM7, CENTRE, 4 * sweep.STEP_S + sweep.STEP_S * np.arange(sweep.STEPS))
    assert np.array_equal(PLAIN[4:, 1:], later[:-4, 1:]) and PLAIN[4:] == pytest.approx(later[:-4])
    assert np.abs(np.diff(PLAIN[:, sweep.JOINT])).max() / sweep.STEP_S > 1.5 * MOVING, "fast enough to count as moving"


@pytest.mark.parametrize(
    "fault", ["nan", "inf", "short", "wrong_length", "missing_joint", "unknown_joint", "uneven", *sorted(NEVER_REFUSED)]
)
def test_a_chunk_that_is_none_is_refused(fault: str):
    message = sweep.garbled(fault, to_message(10_000_000_000, sweep.STEP_S, sweep.bent(fault, PLAIN), ARM7.names, "sweep"))
    if fault in NEVER_REFUSED:
        assert to_chunk(message, ARM7.names).positions == pytest.approx(PLAIN)
    else:
        with pytest.raises(ChunkError):
            to_chunk(message, ARM7.names)


def test_bent_chunks():
    assert sweep.bent("huge_step", PLAIN)[:, sweep.JOINT] == pytest.approx(PLAIN[:, sweep.JOINT] + 1.0)
    assert sweep.bent("alternating", PLAIN)[:4, sweep.JOINT] - PLAIN[:4, sweep.JOINT] == pytest.approx([0.2, 0, 0.2, 0])
    assert sweep.bent("limit", PLAIN)[:, sweep.JOINT].min() > ARM7.joints[sweep.JOINT].position[1]


@pytest.mark.parametrize(
    ("fault", "leaves"),
    [
        ("none", [[0], [1], [2], [3], [4], [5]]),
        ("silent", [[], [], [], [], [], []]),
        ("loss", [[0], [1], [], [3], [4], [5]]),
        ("burst", [[], [], [], [3], [4], [5]]),
        ("pause", [[], [], [], [], [4], [5]]),
        ("late", [[], [], [0], [1], [2], [3]]),
        ("duplicate", [[0, 0], [1, 1], [2, 2], [3, 3], [4, 4], [5, 5]]),
        ("reorder", [[], [1, 0], [], [3, 2], [], [5, 4]]),
    ],
)
def test_what_leaves(fault: str, leaves: list[list[int]]):
    messages = [to_message(i, sweep.STEP_S, PLAIN, ARM7.names, "sweep") for i in range(6)]
    held = deque()
    found = [[message.header.stamp.nanosec for message in sweep.sent(fault, i, messages[i], held)] for i in range(6)]
    assert found == leaves


def test_every_fault_of_chunks_is_injected_and_expected_states_exist():
    told = {fault.inject.args[0] for fault in FAULTS if _is_of_chunks(fault)}
    assert told == set(sweep.CHUNK_FAULTS) - {"none"}
    assert {state for fault in FAULTS for state in fault.ends} == {"active", "standby", "fault", "estop", "gone"}
    assert len(FAULTS) >= 40 and len({(fault.group, fault.name) for fault in FAULTS}) == len(FAULTS)
    groups = [fault.group for fault in FAULTS]
    assert min(groups.count(group) for group in groups) >= 3


def _is_of_chunks(fault: Fault) -> bool:
    return getattr(getattr(fault.inject, "func", None), "__name__", "") == "_chunks"


def _moments(positions: list[float], velocities: list[float], began_s: float) -> list[Moment]:
    rows = zip(positions, velocities, strict=True)
    return [Moment(began_s + 0.1 * i, np.r_[p, CENTRE[1:]], np.r_[v, np.zeros(7)]) for i, (p, v) in enumerate(rows)]


def test_measures_by_hand():
    began_s = time.monotonic() - 100
    sent = _moments([0.0, 0.1, 0.2, 0.25, 0.25], [1.0, 1.0, 0.5, 0.0, 0.0], began_s)
    truth = _moments([0.0, 0.1, 0.2, 0.27, 0.26], [1.0, 1.0, 0.7, 0.1, 0.0], began_s)
    still = np.full(8, 1e-6)
    assert bench._last(sent, still, began_s + 0.05) == pytest.approx(0.15)
    assert bench._last(sent, still, began_s + 0.25) == 0.0
    assert bench._past_commands(sent, truth, began_s + 0.05) == pytest.approx(0.02)
    assert bench._command_excess(ARM7, sent) == 0.0
    assert bench._margin_excess(ARM7, truth) == 0.0
    high = ARM7.joints[0].position[1]
    assert bench._command_excess(ARM7, _moments([high + 0.1], [0.0], began_s)) == pytest.approx(0.1)
    assert bench._command_excess(ARM7, _moments([0.0], [-2.5], began_s)) == pytest.approx(2.5 - 2.175)
    assert bench._margin_excess(ARM7, _moments([-high - 0.2], [0.0], began_s)) == pytest.approx(0.2)


STOPPED = bench.Outcome(
    ended="standby", right=True, codes=("image_age",), cause="", commands_stop_s=0.25, robot_rests_s=0.5,
    command_excess=0.0, margin_excess=0.0003, past_commands=0.0142, armed_again=True,
)  # fmt: skip


def test_what_is_written(tmp_path: Path):
    went_on = replace(STOPPED, ended="active", right=False, commands_stop_s=None, robot_rests_s=None, armed_again=False)
    rows = [
        bench.Row("camera", "no images", ("standby",), (STOPPED, replace(STOPPED, commands_stop_s=0.75))),
        bench.Row("camera", "half", ("standby",), (STOPPED, went_on)),
    ]
    out = tmp_path / "new" / "faults.json"
    bench.write(rows, out, {"commit": "abc"})
    found = json.loads(out.read_text())
    assert found["commit"] == "abc"
    assert [(row["group"], row["fault"], row["expected"]) for row in found["rows"]] == [
        ("camera", "no images", ["standby"]),
        ("camera", "half", ["standby"]),
    ]
    assert bench.Outcome(**found["rows"][1]["outcomes"][1] | {"codes": ("image_age",)}) == went_on
    title, _, first, second = out.with_suffix(".md").read_text().splitlines()
    assert title == f"| {' | '.join(bench.COLUMNS)} |"
    assert first == "| camera | no images | standby | 2 of 2 | 0.50 (0.75) | 0.50 (0.50) | 0 | 0.0003 | 0.014 | image_age | 2 of 2 |"
    assert second == "| camera | half | standby, active | 1 of 2 | – | – | 0 | 0.0003 | 0.014 | image_age | 1 of 2 |"


def test_commands_that_still_move_have_no_stop():
    now_s = time.monotonic()
    assert bench._last(_moments([0.0, 0.1], [1.0, 1.0], now_s - 0.1), np.full(8, 1e-6), now_s - 0.2) is None


def test_a_robot_that_comes_to_rest_late_is_watched_until_then():
    began_s = time.monotonic()
    cell = Mock(profile=ARM7, truth=[Moment(began_s, CENTRE, np.full(8, 0.5))], children={"bridge": Mock(alive=False)})

    def robot() -> None:
        for i in range(10):
            time.sleep(0.1)
            cell.truth.append(Moment(time.monotonic(), CENTRE, np.full(8, 0.5 if i < 8 else 0.0)))

    with ThreadPoolExecutor() as pool:
        pool.submit(robot)
        assert bench._watch(cell, chosen(["bridge: killed (SIGKILL)"])[0], began_s) == "gone"
        found = bench._rests(ARM7, list(cell.truth), began_s)
    moved = [moment.at_s for moment in cell.truth if moment.velocity.any()]
    assert found == pytest.approx(moved[-1] - began_s, abs=1e-3)


def test_a_robot_that_never_rests_is_not_watched_for_ever(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bench, "REST_S", 0.2)
    began_s = time.monotonic()
    cell = Mock(profile=ARM7, truth=[Moment(began_s + 9.0, CENTRE, np.full(8, 0.5))], children={"bridge": Mock(alive=False)})
    bench._watch(cell, chosen(["bridge: killed (SIGKILL)"])[0], began_s)
    assert 0.7 < time.monotonic() - began_s < 5.0
    assert bench._rests(ARM7, cell.truth, began_s) is None
