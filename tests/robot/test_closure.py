"""A robot computer needs neither torch nor a simulator nor ROS to import the core."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.repo.imports import ROOT

MODULES = sorted(f"robot.{path.stem}" for path in (ROOT / "robot").glob("*.py") if path.stem != "__init__")
TELEOP = sorted(f"robot.teleop.{path.stem}" for path in (ROOT / "robot" / "teleop").glob("*.py") if path.stem != "__init__")
RUN_A_POLICY = ["robot.blend_bench", "robot.calibration", "robot.commander", "robot.observation", "robot.rehearsal"]
HEAVY = ("torch", "rclpy", "mujoco", "lerobot", "isaaclab", "transformers", "cv2", "scipy", "sim", "vla_rl")


@pytest.mark.parametrize("module", ["robot.loop", "robot.actions", "robot.obstacles"])
def test_these_modules_are_the_core(module: str):
    assert module in MODULES


@pytest.mark.parametrize(
    ("modules", "heavy"),
    [
        (sorted({*MODULES} - {*RUN_A_POLICY}), HEAVY),
        ([*RUN_A_POLICY, *TELEOP, "robot.serve.client"], tuple(name for name in HEAVY if name != "cv2")),
    ],
    ids=["what moves a robot", "what looks at images"],
)
def test_importing_loads_nothing_heavy(modules: list[str], heavy: tuple[str, ...], tmp_path: Path):
    code = f"import sys, {', '.join(modules)}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
