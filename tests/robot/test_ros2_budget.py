"""Camera to command: stages by hand, and measured on a real deployment with a policy of random weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs the ros extra: pip install 'vla-rl[ros]'")

from policies.config import PolicyConfig
from robot.ros2 import budget as budgets
from robot.ros2.budget import Budget, Record, Spread, bench_budget, stages_of
from robot.ros2.sim_operator import OperatorError
from tests.random_run import random_run
from tests.robot.relaxed import AGES, RATES, SAFETY
from tests.ros import unique_domain, write_profile
from tests.vla_rl.test_cli import refused
from vla_rl.cli import main
from vla_rl.config import SimConfig


def test_stages_by_hand():
    record = Record(
        decisions={1_000_000_000: (0.03, 0.01), 2_000_000_000: (0.05, 0.02)},
        accepted={1_000_000_000: 0.04, 2_000_000_000: 0.08, 3_000_000_000: 0.1},
        commands_ns=[1_000_000_000, 1_045_000_000, 1_065_000_000, 2_070_000_000],
    )
    stages, totals = stages_of(record)
    assert totals == pytest.approx([0.045]), "of the second no command is known, of the third no decision"
    assert {name: times[0] for name, times in stages.items()} == pytest.approx(
        {"observed": 0.02, "decided": 0.01, "carried": 0.01, "commanded": 0.005}
    )


def test_a_spread():
    assert Spread.of([0.1, 0.2, 0.9]) == Spread(0.2, pytest.approx(0.886), 0.9, 3)
    with pytest.raises(OperatorError, match="nothing was measured"):
        Spread.of([])


def test_a_rate_that_fails_leaves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spread = Spread.of([0.01])

    def measure(bundle: Path, profile: Path, task: str, rate_hz: float, *rest: object) -> Budget:
        if rate_hz > 50:
            raise OperatorError("it does not arm")
        return Budget(rate_hz, {}, spread, spread, 0, 1.0, 0)

    monkeypatch.setattr(budgets, "_measure", measure)
    with pytest.raises(OperatorError, match="at 500 Hz: it does not arm"):
        bench_budget(tmp_path, tmp_path, "reach", [500, 50], 1.0, tmp_path, tmp_path / "budget.json", {})
    written = json.loads((tmp_path / "budget.json").read_text())
    assert [row["command_hz"] for row in written["budgets"]] == [50] and written["failed"] == {"500 Hz": "it does not arm"}


@pytest.mark.ros
def test_a_deployment_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", str(unique_domain()))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    sim = SimConfig(backend="mujoco", tasks=("reach",), num_envs=1, workers=1, image_px=32, control="joint_delta")
    random_run(tmp_path / "run", sim, PolicyConfig())
    bundle, out = str(tmp_path / "bundle"), tmp_path / "budget.json"
    assert main(["export", str(tmp_path / "run"), "--out", bundle, "--executed", "4"]) == 0
    profile = str(write_profile(tmp_path, rates=RATES, ages=AGES, safety=SAFETY))
    options = ["--rates", "50", "--seconds", "4", "--logs", str(tmp_path / "logs"), "--out", str(out)]
    assert main(["bench", "budget", bundle, "--robot", profile, *options]) == 0
    [budget] = json.loads(out.read_text())["budgets"]
    assert budget["total"]["count"] > 5 and budget["jitter"]["count"] > 100
    assert all(0 < stage["median"] < budget["total"]["median"] for stage in budget["stages"].values())


def test_bad_input_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert "seconds, rates and --retell lie above 0" in refused(["bench", "budget", "b", "--robot", "r.yaml", "--seconds", "0"], capsys)
    assert "repeats start at 1" in refused(["bench", "faults", "--robot", "r.yaml", "--repeats", "0"], capsys)
    assert "no fault is called 'fly'" in refused(["bench", "faults", "--robot", "r.yaml", "--only", "fly"], capsys)
