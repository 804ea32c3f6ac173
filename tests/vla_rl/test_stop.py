"""Ctrl-C through the command line: a checkpoint, exit status 130, and `--resume` finishes the run."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

SIM = ["--sim.tasks", "faucet-open", "--sim.num-envs", "2", "--sim.workers", "1", "--sim.horizon", "16"]
STEPS = 60


def vla_rl(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "vla_rl.cli", *map(str, arguments)]
    return subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_interrupted_run_resumes_to_its_end(tmp_path: Path) -> None:
    demos, folder, empty = tmp_path / "demos", tmp_path / "run", tmp_path / "preset.yaml"
    empty.write_text("{}")
    collecting = vla_rl("collect", empty, "--out", demos, "--episodes", 1, *SIM[:6])
    _, errors = collecting.communicate(timeout=120)
    assert collecting.returncode == 0, errors
    train = ["train", empty, "--run-dir", folder, "--data.path", demos, "--threads", 1, *SIM, "--evaluate.episodes", 2]
    train += ["--algorithm.steps", STEPS, "--algorithm.batch", 8, "--algorithm.log-every", 1]
    running = vla_rl(*train)
    metrics, deadline = folder / "metrics.jsonl", time.monotonic() + 120
    while not (metrics.is_file() and metrics.read_text()):
        assert running.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 130 and "continue with --resume" in errors and "Traceback" not in errors
    stopped = int(next((folder / "checkpoints").iterdir()).name)
    assert 0 < stopped < STEPS and not (folder / "result.json").exists()
    resumed = vla_rl(*train, "--resume")
    output, errors = resumed.communicate(timeout=180)
    assert resumed.returncode == 0, errors
    assert f"after update {stopped}" in output
    assert [json.loads(line)["update"] for line in metrics.read_text().splitlines()] == list(range(1, STEPS + 1))
    assert json.loads((folder / "result.json").read_text())["updates"] == STEPS
