"""`python -m sim.isaaclab.expert CHECKPOINT --out FILE`: what rsl_rl trained, as an expert for `sim.experts`.

The task, robot and control are those of `params/env.yaml`, which Isaac Lab writes beside the checkpoint.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
import tyro
import yaml

from sim.learned import LearnedExpert
from sim.vec_env import SimulationError

EPS = 1e-2
"""What rsl_rl adds to the standard deviation that it divides by."""


class _PlainLoader(yaml.SafeLoader):
    """YAML in which Python's own objects are nothing."""


_PlainLoader.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: None)


def convert(checkpoint: Path) -> LearnedExpert:
    """The actor of an rsl_rl checkpoint. Raises `SimulationError` for a file that is none, or whose network is of another kind."""
    run = checkpoint.parent / "params"
    try:
        env = yaml.load((run / "env.yaml").read_text(), _PlainLoader)
        agent = yaml.load((run / "agent.yaml").read_text(), _PlainLoader)
        actor: dict[str, torch.Tensor] = torch.load(checkpoint, map_location="cpu", weights_only=True)["actor_state_dict"]
        about = {name: str(env[name]) for name in ("task", "robot", "control")}
        activation = agent["actor"]["activation"]
    except (OSError, KeyError, TypeError, yaml.YAMLError, RuntimeError) as error:
        raise SimulationError(f"{checkpoint} is no checkpoint of a tabletop task that rsl_rl trained: {error!r}") from error
    numbers = sorted(int(name.split(".")[1]) for name in actor if name.startswith("mlp.") and name.endswith(".weight"))
    known = {f"mlp.{i}.{part}" for i in numbers for part in ("weight", "bias")}
    normaliser = {f"obs_normalizer.{name}" for name in ("_mean", "_var", "_std", "count")}
    if activation != "elu" or set(actor) != known | normaliser | {"distribution.std_param"}:
        raise SimulationError(
            f"{checkpoint}: only Gaussian MLPs with ELU and normalised observations are read, as sim.isaaclab.rl_agent sets"
        )
    layers = tuple((actor[f"mlp.{i}.weight"], actor[f"mlp.{i}.bias"]) for i in numbers)
    return LearnedExpert(**about, shift=actor["obs_normalizer._mean"][0], scale=actor["obs_normalizer._std"][0] + EPS, layers=layers)


def expert(checkpoint: Annotated[Path, tyro.conf.Positional], out: Path) -> None:
    """Make an expert of a checkpoint that Isaac Lab's `train --rl_library rsl_rl` wrote.

    Args:
        checkpoint: such as logs/rsl_rl/tabletop/DATE/model_299.pt.
        out: the expert, a safetensors file.
    """
    found = convert(checkpoint)
    found.save(out)
    print(f"{out}: expert of {found.task} for {found.robot}, {found.control}; use it with --sim.experts {out}")


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 bad input."""
    try:
        tyro.cli(expert, args=argv, prog="python -m sim.isaaclab.expert")
    except SimulationError as error:
        print(f"expert: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
