"""The main job on a small scale: demonstrations, teacher, few-shot student, on-policy distillation, one report."""

from __future__ import annotations

import json
from pathlib import Path

from vla_rl.compare import compare
from vla_rl.grid import run_grid

GRIDS = {"metaworld": "demo", "mujoco": "demo_mujoco", "isaaclab": "demo_isaaclab"}
"""Grid of each simulator's demo, in `configs/grids/`."""


def demo(sim: str, out: Path | None = None) -> None:
    """Run a simulator's demo grid, or what is left of it, and write `result.json` and `report/` under `out` (default: `runs/GRID`)."""
    grid = GRIDS[sim]
    out = out or Path("runs") / grid
    results = out / "results"
    run_grid(Path(__file__).parent.parent / "configs" / "grids" / f"{grid}.yaml", runs=out, results=results)
    records = {path.stem.rsplit("-s", 1)[0]: json.loads(path.read_text()) for path in sorted(results.glob("*/*.json"))}
    compare([out / grid / f"{cell}-s0" for cell in ("student", "opd", "teacher")], out / "report", student="student", teacher="teacher")
    stages = {cell: record["minutes"] for cell, record in records.items()}
    success = {cell: record["result"]["evaluation"]["success"] for cell, record in records.items() if record["result"]}
    (out / "result.json").write_text(json.dumps({"success": success, "minutes": stages, "records": records}, indent=1) + "\n")
    for cell, minutes in stages.items():
        print(f"{cell:10} {minutes:5.1f} min" + (f"   success {success[cell]:.0%}" if cell in success else ""))
    print(f"{sum(stages.values()):.1f} min in all; {out / 'result.json'}, {out / 'report' / 'report.html'}")
