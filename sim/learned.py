"""Experts that were learned instead of scripted: a network that acts on one task from its privileged state.

Made by `python -m sim.isaaclab.expert` of what Isaac Lab's own training command leaves behind.

B environments · S numbers of the privileged state · A actions
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from sim.privileged import privileged_sizes
from sim.vec_env import SimulationError

FORMAT = "vla-rl expert 1"


@dataclass(frozen=True)
class LearnedExpert:
    """Normalisation, then linear layers with ELU between them: actions are cut off at -1 and 1."""

    task: str
    robot: str
    control: str
    shift: torch.Tensor
    """`(S,)`"""
    scale: torch.Tensor
    """`(S,)`; the network sees (state - shift) / scale."""
    layers: tuple[tuple[torch.Tensor, torch.Tensor], ...]
    """Weight `(out, in)` and bias `(out,)` of each."""

    def __post_init__(self) -> None:
        """Raises `ValueError` for layers that do not fit each other."""
        sizes = [len(self.shift), *(len(bias) for _, bias in self.layers)]
        if len(self.scale) != sizes[0] or [tuple(weight.shape) for weight, _ in self.layers] != [(b, a) for a, b in pairwise(sizes)]:
            raise ValueError(f"layers {[tuple(weight.shape) for weight, _ in self.layers]} do not fit {sizes}")

    def act(self, state: torch.Tensor) -> torch.Tensor:
        """Actions `(B, A)` at privileged states `(B, S)`."""
        found = (state - self.shift.to(state)) / self.scale.to(state)
        for i, (weight, bias) in enumerate(self.layers):
            found = torch.nn.functional.linear(found, weight.to(found), bias.to(found))
            if i + 1 < len(self.layers):
                found = torch.nn.functional.elu(found)
        return found.clamp(-1, 1)

    def save(self, path: Path) -> None:
        """Write a safetensors file that says what it is for."""
        about = {"format": FORMAT, "task": self.task, "robot": self.robot, "control": self.control}
        tensors = {"shift": self.shift, "scale": self.scale}
        for i, (weight, bias) in enumerate(self.layers):
            tensors |= {f"layers.{i}.weight": weight, f"layers.{i}.bias": bias}
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.float().contiguous() for name, tensor in tensors.items()}, path, {"expert": json.dumps(about)})

    @classmethod
    def load(cls, path: Path) -> LearnedExpert:
        """Read what `save` wrote. Raises `SimulationError` for anything else."""
        try:
            with safe_open(path, "pt") as file:
                about = json.loads((file.metadata() or {})["expert"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            if about.pop("format") != FORMAT:
                raise KeyError(FORMAT)
            count = sum(name.endswith(".weight") for name in tensors)
            layers = tuple((tensors[f"layers.{i}.weight"], tensors[f"layers.{i}.bias"]) for i in range(count))
            return cls(**about, shift=tensors["shift"], scale=tensors["scale"], layers=layers)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise SimulationError(f"{path} is no learned expert ({error!r}); make one with `python -m sim.isaaclab.expert`") from error


def load_experts(paths: Sequence[str], robot: str, control: str, actions: int) -> dict[str, LearnedExpert]:
    """Experts by task.

    Args:
        paths: their files; at most one per task.
        robot: of the environments.
        control: what their actions mean.
        actions: A.

    Raises:
        SimulationError: a file is no expert, or one for something else.
    """
    found: dict[str, LearnedExpert] = {}
    sizes = privileged_sizes(robot)
    for path in paths:
        expert = LearnedExpert.load(Path(path))
        if (expert.robot, expert.control) != (robot, control):
            raise SimulationError(f"{path} is for robot {expert.robot} and control {expert.control}, not for {robot} and {control}")
        if expert.task in found:
            raise SimulationError(f"{path} is a second expert for task '{expert.task}'; give one")
        shape = len(expert.shift), len(expert.layers[-1][1])
        if shape != (sizes.get(expert.task), actions):
            raise SimulationError(
                f"{path} takes {shape[0]} numbers and gives {shape[1]} actions; task '{expert.task}' has {sizes.get(expert.task)} "
                f"and {actions}: train it again"
            )
        found[expert.task] = expert
    return found
