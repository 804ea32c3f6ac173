"""The whole path in Isaac Lab through the command line: demonstrations, SFT, an OPD update, evaluation there and in MuJoCo."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from vla_rl.cli import main

pytestmark = [pytest.mark.skipif(find_spec("isaaclab") is None, reason="needs the extra 'isaac'"), pytest.mark.timeout(1800)]

SIM = ["--sim", "isaaclab", "--sim.tasks", "reach", "lift", "--sim.num-envs", "4", "--sim.image-px", "32"]


def test_opd_in_isaac_lab_and_the_same_policy_in_both_simulators(tmp_path: Path) -> None:
    preset, demos, student, opd = (tmp_path / name for name in ("preset.yaml", "demos", "student", "opd"))
    preset.write_text("{}")
    assert main(["collect", str(preset), "--out", str(demos), "--episodes", "2", *SIM]) == 0
    common = ["--threads", "1", "--evaluate.episodes", "1", *SIM]
    sft = ["--algorithm.name", "sft", "--algorithm.steps", "20", "--algorithm.batch", "8", "--data.path", str(demos)]
    assert main(["train", str(preset), "--run-dir", str(student), *sft, *common]) == 0
    update = ["--algorithm.name", "opd", "--algorithm.updates", "1", "--algorithm.episodes", "4", "--algorithm.passes", "1"]
    policies = ["--init", str(student / "policy"), "--teacher", "expert"]
    assert main(["train", str(preset), "--run-dir", str(opd), *update, *policies, *common]) == 0
    row = json.loads((opd / "metrics.jsonl").read_text().splitlines()[-1])
    assert row["episodes"] == 4 and row["decisions"] >= 4 * 7 and row["reverse_kl"] > 0
    result = json.loads((opd / "result.json").read_text())
    assert [task["task"] for task in result["evaluation"]["tasks"]] == ["reach", "lift"]
    shown = ["--evaluate.episodes", "1", "--evaluate.videos", "0", "--evaluate.shuffled", "False"]
    assert main(["eval", str(opd), "--sim", "mujoco", "--out", str(tmp_path / "mujoco"), *shown]) == 0
    assert list((tmp_path / "mujoco").glob("*.json"))
