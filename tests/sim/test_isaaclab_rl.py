"""The suite as Isaac Lab environments, trained by Isaac Lab's own command."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = [pytest.mark.skipif(find_spec("isaaclab") is None, reason="needs the extra 'isaac'"), pytest.mark.timeout(1800)]


def test_isaac_labs_own_training_command_runs_a_task_of_the_suite(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).parent / "isaaclab"), "train", "--rl_library", "rsl_rl"]
    command += ["--external_callback", "sim.isaaclab.rl.register", "--task", "VlaRl-Reach-v0", "--device", "cpu"]
    command += ["--num_envs", "16", "--max_iterations", "2", "agent.device=cpu"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=1500, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert "Learning iteration 1/2" in done.stdout and "Mean reward" in done.stdout
    assert list(tmp_path.rglob("model_*.pt")), "no checkpoint was written"
