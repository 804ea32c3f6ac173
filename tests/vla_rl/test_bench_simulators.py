"""Simulators behind our environments and by themselves: the real ones, small."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from sim.bare import BareSettings, steps_per_second
from sim.workers.process import WorkerProcess
from tests.vla_rl.test_cli import refused
from vla_rl.bench_simulators import PARTS
from vla_rl.cli import main


def test_a_rate_counts_whole_decisions():
    drawn = list[bool]()
    assert steps_per_second(drawn.append, 16, True, 0.0) > 0
    assert drawn == [True], "once, however short the time"


def test_mujoco_is_measured_in_turn(tmp_path: Path) -> None:
    out = tmp_path / "new" / "simulators.json"
    assert main(["bench", "simulators", "--sim", "mujoco", "--envs", "3", "--repeats", "3", "--seconds", "0.05", "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert found["settings"]["envs"] == [3] and "commit" in found
    rows = found["throughput"]
    assert [(row["part"], row["camera"]) for row in rows] == [(part, camera) for camera in (False, True) for part in PARTS["mujoco"]]
    for bare, ours in (rows[:2], rows[2:]):
        ratios = sorted(mine / plain for mine, plain in zip(ours["steps_per_s"], bare["steps_per_s"], strict=True))
        assert bare["of_bare"] == 1 and ours["of_bare"] == pytest.approx(ratios[1], abs=1e-3)
        assert 0.05 < ours["of_bare"] < 1.5, "three environments of one scene cannot be faster than their physics"


@pytest.mark.skipif(find_spec("isaaclab") is None, reason="needs the extra 'isaac'")
@pytest.mark.timeout(1800)  # the first start on a machine compiles kernels for some minutes
def test_isaac_lab_by_itself_steps_and_draws() -> None:
    process = WorkerProcess("sim.isaaclab.bare", BareSettings("reach", "arm7", 2, 32, "front", 4))
    try:
        for draw in (False, True):
            process.request("run", draw, 0.0).result()  # loads kernels
        still, drawn = (process.request("run", draw, 0.5).result() for draw in (False, True))
    finally:
        process.close()
    assert 0 < drawn < 2 * still


def test_bad_input_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert "environments and repeats start at 1" in refused(["bench", "simulators", "--envs", "0"], capsys)
    assert "unknown tabletop task 'fly'" in refused(["bench", "simulators", "--sim", "mujoco", "--task", "fly"], capsys)
