"""Training checkpoints: a folder with the policy, the optimizer and the progress. Safetensors and JSON, no pickle.

checkpoints/000010/{policy/, optimizer.safetensors, optimizer.json, progress.json, critic.safetensors where there is one}
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from policies.folder import load_policy, save_policy
from policies.interface import Policy, UserError

KEEP = 2


@dataclass
class Progress:
    """What a run has done so far; all that resuming needs besides weights and optimizer."""

    updates: int = 0
    """Updates (on-policy) or gradient steps (sft) finished; also the version of the policy."""
    episodes: int = 0
    """Environment episodes that training used: rolled out, or in its data set."""
    decisions: int = 0
    """Policy decisions in those episodes."""
    teacher_queries: int = 0
    """Decisions that the teacher scored or labelled."""
    idle: int = 0
    """Updates in a row that had failures but nothing to learn from."""
    wall_s: float = 0.0
    """Seconds of training, over all resumed parts."""


def save_checkpoint(
    folder: Path, policy: Policy, optimizer: torch.optim.Optimizer, progress: Progress, critic: nn.Module | None = None
) -> Path:
    """Write `folder/<updates>` completely or not at all, then drop all but the newest two checkpoints.

    Raises `UserError` when it cannot be written, for example because the disk is full; older checkpoints stay.
    """
    target = folder / f"{progress.updates:06d}"
    part = target.with_suffix(".partial")
    shutil.rmtree(part, ignore_errors=True)
    try:
        _write(part, policy, optimizer, progress, critic)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(part, ignore_errors=True)
        raise UserError(f"checkpoint {target} cannot be written: {error}; the one before it stays") from error
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)
    for old in list_checkpoints(folder)[:-KEEP]:
        shutil.rmtree(old)
    return target


def _write(part: Path, policy: Policy, optimizer: torch.optim.Optimizer, progress: Progress, critic: nn.Module | None) -> None:
    save_policy(policy, part / "policy")
    if critic is not None:
        save_file(critic.state_dict(), part / "critic.safetensors")
    state = optimizer.state_dict()
    tensors = {f"{index}.{name}": value for index, slots in state["state"].items() for name, value in slots.items()}
    save_file(tensors, part / "optimizer.safetensors")
    (part / "optimizer.json").write_text(json.dumps(state["param_groups"]))
    (part / "progress.json").write_text(json.dumps(asdict(progress)))


def list_checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    return sorted(path for path in folder.glob("*") if path.is_dir() and path.name.isdigit())


def load_checkpoint(path: Path, policy: Policy, optimizer: torch.optim.Optimizer, critic: nn.Module | None = None) -> Progress:
    """Restore weights and optimizer in place. Raises `UserError` if the checkpoint does not fit the run."""
    try:
        groups = json.loads((path / "optimizer.json").read_text())
        tensors = load_file(path / "optimizer.safetensors")
        progress = Progress(**json.loads((path / "progress.json").read_text()))
        if critic is not None:
            critic.load_state_dict(load_file(path / "critic.safetensors"))
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        raise UserError(f"checkpoint {path} cannot be read: {error}; delete that folder to resume from the one before") from error
    policy.load_state_dict(load_policy(path / "policy").state_dict())
    slots: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        index, slot = name.split(".", 1)
        slots.setdefault(int(index), {})[slot] = value
    optimizer.load_state_dict({"state": slots, "param_groups": groups})
    return progress
