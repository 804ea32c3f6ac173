"""The main job on a small scale: demonstrations, few-shot student, on-policy distillation by a teacher, one report."""

from __future__ import annotations

import json
from pathlib import Path

from vla_rl.compare import compare
from vla_rl.grid import run_grid

GRIDS = {"metaworld": "demo", "mujoco": "demo_mujoco", "isaaclab": "demo_isaaclab"}
"""By simulator: files in `configs/grids`. In Meta-World the teacher is a policy, on the tabletop the scripted expert."""
FOLDER = Path(__file__).parent.parent / "configs" / "grids"


def demo(sim: str, out: Path) -> None:
    """Run a simulator's demo grid under `out`, or what is left of it, and write `result.json` and `report/` there."""
    results, name = out / "results", GRIDS[sim]
    run_grid(FOLDER / f"{name}.yaml", runs=out, results=results)
    records = {path.stem.rsplit("-s", 1)[0]: json.loads(path.read_text()) for path in sorted((results / name).glob("*.json"))}
    success = {cell: record["result"]["evaluation"]["success"] for cell, record in records.items() if record["result"]}
    cells = [cell for cell in ("student", "opd", "teacher") if cell in success]
    gap = ("student", "teacher") if "teacher" in success else (None, None)
    compare([out / name / f"{cell}-s0" for cell in cells], out / "report", *gap)
    stages = {cell: record["minutes"] for cell, record in records.items()}
    (out / "result.json").write_text(json.dumps({"success": success, "minutes": stages, "records": records}, indent=1) + "\n")
    for cell, minutes in stages.items():
        print(f"{cell:10} {minutes:5.1f} min" + (f"   success {success[cell]:.0%}" if cell in success else ""))
    print(f"{sum(stages.values()):.1f} min in all; {out / 'result.json'}, {out / 'report' / 'report.html'}")
