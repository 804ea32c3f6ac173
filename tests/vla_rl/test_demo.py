"""`vla-rl demo` in a simulator of the tabletop, with next to no training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from vla_rl import demo
from vla_rl.grid import load_grid

EVALUATED = {"evaluate.episodes": 2, "evaluate.videos": 0}
LITTLE = {
    "demos": {"episodes": 2},
    "student": {"algorithm.steps": 2, **EVALUATED},
    "opd": {"algorithm.updates": 1, "algorithm.episodes": 2, "algorithm.passes": 1, **EVALUATED},
}


@pytest.mark.parametrize("name", demo.GRIDS.values())
def test_every_simulator_has_a_demo(name: str) -> None:
    grid = load_grid(demo.FOLDER / f"{name}.yaml")
    assert grid.name == name and {"demos", "student", "opd"} <= set(grid.cells)


def test_a_tabletop_demo_ends_in_one_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    grid = yaml.safe_load((demo.FOLDER / "demo_mujoco.yaml").read_text())
    for name, cell in grid["cells"].items():
        cell["set"] |= {"sim.num_envs": 2, "sim.image_px": 32, **LITTLE[name]}
        cell |= {key: str(demo.FOLDER / cell[key]) for key in ("preset", "collect") if key in cell}
    (tmp_path / "demo_mujoco.yaml").write_text(yaml.safe_dump(grid))
    monkeypatch.setattr(demo, "FOLDER", tmp_path)
    demo.demo("mujoco", tmp_path / "out")
    found = json.loads((tmp_path / "out" / "result.json").read_text())
    assert set(found["success"]) == {"student", "opd"} and set(found["minutes"]) == set(LITTLE)
    assert "opd" in (tmp_path / "out" / "report" / "report.html").read_text()
    assert "min in all" in capsys.readouterr().out
