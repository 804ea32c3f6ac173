"""The suite as Isaac Lab environments, trained by Isaac Lab's own command."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

pytest.importorskip("rsl_rl", reason="needs the extra 'isaac'")

from rsl_rl.models import MLPModel
from tensordict import TensorDict

from sim.isaaclab.expert import main
from sim.learned import LearnedExpert
from sim.privileged import privileged_sizes

pytestmark = [pytest.mark.skipif(find_spec("isaaclab") is None, reason="needs the extra 'isaac'"), pytest.mark.timeout(1800)]


def train(folder: Path, task: str) -> str:
    """Two updates by Isaac Lab's own training command; what it prints."""
    command = [str(Path(sys.executable).parent / "isaaclab"), "train", "--rl_library", "rsl_rl"]
    command += ["--external_callback", "sim.isaaclab.rl.register", "--task", task, "--device", "cpu"]
    command += ["--num_envs", "16", "--max_iterations", "2", "agent.device=cpu"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=1500, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert "Learning iteration 1/2" in done.stdout and "Mean reward" in done.stdout
    return done.stdout


def test_isaac_labs_own_training_command_takes_the_whole_body(tmp_path: Path) -> None:
    assert "Mean episode fallen" in train(tmp_path, "VlaRl-Hands-WholeBody-v0")


def test_isaac_labs_own_training_command_makes_an_expert_of_a_task_of_the_suite(tmp_path: Path) -> None:
    train(tmp_path, "VlaRl-Reach-Joints-v0")
    checkpoint = max(tmp_path.rglob("model_*.pt"))

    assert main([str(checkpoint), "--out", str(tmp_path / "reach.safetensors")]) == 0
    expert, state = LearnedExpert.load(tmp_path / "reach.safetensors"), torch.randn(7, privileged_sizes("arm7")["reach"])
    assert (expert.task, expert.robot, expert.control) == ("reach", "arm7", "joint_delta")
    theirs = MLPModel(
        TensorDict({"policy": state}, [7]),
        {"actor": ["policy"]},
        "actor",
        8,
        [256, 128],
        obs_normalization=True,
        distribution_cfg={"class_name": "GaussianDistribution"},
    )
    theirs.load_state_dict(torch.load(checkpoint, weights_only=True)["actor_state_dict"])
    theirs.eval()
    torch.testing.assert_close(expert.act(state), theirs(TensorDict({"policy": state}, [7])).detach().clamp(-1, 1), atol=1e-5, rtol=1e-4)


def test_what_rsl_rl_did_not_write_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"actor_state_dict": {}}, tmp_path / "model_0.pt")
    assert main([str(tmp_path / "model_0.pt"), "--out", str(tmp_path / "x.safetensors")]) == 2
    assert "is no checkpoint of a tabletop task that rsl_rl trained" in capsys.readouterr().err
