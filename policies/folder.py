"""The policy folder: `spec.json`, `config.yaml`, `policy.safetensors`. No pickle; weights are checked tensor by tensor."""

from __future__ import annotations

import os
from pathlib import Path

import torch
import yaml
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from policies.config import PolicyConfig
from policies.interface import PolicySpec, UserError
from policies.vla import VlaPolicy

Policy = VlaPolicy
"""Every kind of policy that can be trained and stored."""


class FolderError(UserError):
    """A policy folder is missing, incomplete or does not hold what it declares."""


def save_policy(policy: VlaPolicy, folder: Path) -> None:
    """Write the policy folder. The weights replace older ones in one step, so a crash leaves the old or the new."""
    folder.mkdir(parents=True, exist_ok=True)
    policy.spec.save(folder / "spec.json")
    (folder / "config.yaml").write_text(yaml.safe_dump(policy.config.model_dump(mode="json"), sort_keys=False))
    part = folder / "policy.safetensors.part"
    save_file({name: value.contiguous() for name, value in policy.state_dict().items()}, part)
    os.replace(part, folder / "policy.safetensors")


def load_policy(folder: Path, device: str = "cpu") -> VlaPolicy:
    """Read a policy folder. Raises `FolderError` naming the first file, tensor, shape or statistic that is wrong."""
    missing = [name for name in ("spec.json", "config.yaml", "policy.safetensors") if not (folder / name).is_file()]
    if missing:
        raise FolderError(f"{folder} is not a policy folder: {', '.join(missing)} missing")
    try:
        spec = PolicySpec.load(folder / "spec.json")
        config = PolicyConfig.model_validate(yaml.safe_load((folder / "config.yaml").read_text()))
        weights = load_file(folder / "policy.safetensors")
    except (ValidationError, yaml.YAMLError, SafetensorError) as error:
        raise FolderError(f"{folder} cannot be read: {error}") from error
    policy = VlaPolicy(config, spec)
    _load_strictly(policy, weights, folder)
    return policy.to(device)


def _load_strictly(policy: VlaPolicy, weights: dict[str, torch.Tensor], folder: Path) -> None:
    expected = policy.state_dict()
    missing, extra = sorted(expected.keys() - weights.keys()), sorted(weights.keys() - expected.keys())
    if missing or extra:
        statistics = [name for name in missing if name.startswith("normalizer.")]
        what = f"normalisation statistics {statistics} are missing" if statistics else f"missing {missing[:3]}, unexpected {extra[:3]}"
        raise FolderError(
            f"{folder}/policy.safetensors does not fit config.yaml: {what} ({len(missing)} missing, {len(extra)} unexpected tensors)"
        )
    for name, value in weights.items():
        if value.shape != expected[name].shape:
            raise FolderError(
                f"{folder}/policy.safetensors: tensor '{name}' has shape {tuple(value.shape)}, expected {tuple(expected[name].shape)}"
            )
        if name.startswith("normalizer.") and not torch.equal(value, expected[name]):
            raise FolderError(f"{folder}: normalisation statistic '{name}' is {value.tolist()}, spec.json says {expected[name].tolist()}")
        if not torch.isfinite(value).all():
            raise FolderError(f"{folder}/policy.safetensors: tensor '{name}' holds NaN or infinite values")
    policy.load_state_dict(weights)
