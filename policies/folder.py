"""The policy folder: `spec.json`, `config.yaml` and weights. No pickle; weights are checked tensor by tensor.

The project's own policies keep `policy.safetensors`; a LeRobot policy keeps LeRobot's files, which stock LeRobot loads.
"""

from __future__ import annotations

from pathlib import Path

import torch
import yaml
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file

from policies.config import AnyPolicyConfig, PolicyConfig, SmolVlaConfig
from policies.interface import Policy, PolicySpec, UserError
from policies.vla import VlaPolicy


class FolderError(UserError):
    """A policy folder is missing, incomplete or does not hold what it declares."""


def make_policy(config: PolicyConfig | SmolVlaConfig, spec: PolicySpec, folder: Path | None = None) -> Policy:
    """A new policy of the config's family; `folder` holds the files of one that a library loads by itself.

    Raises:
        SpecError: the family cannot see or do what the spec says.
        FolderError: a package that the family needs is missing.
    """
    if isinstance(config, PolicyConfig):
        return VlaPolicy(config, spec)
    try:
        from policies.smolvla import SmolVlaPolicy
    except ImportError as error:
        raise FolderError(f"SmolVLA needs package '{error.name}': install the extra 'lerobot-vla'") from error
    return SmolVlaPolicy(config, spec, folder)


def save_policy(policy: Policy, folder: Path) -> None:
    """Write the policy folder. The weights replace older ones in one step, so a crash leaves the old or the new."""
    folder.mkdir(parents=True, exist_ok=True)
    policy.spec.save(folder / "spec.json")
    (folder / "config.yaml").write_text(yaml.safe_dump(policy.config.model_dump(mode="json"), sort_keys=False))
    policy.save(folder)


def load_policy(folder: Path, device: str = "cpu", executed: int | None = None) -> Policy:
    """Read a policy folder.

    Args:
        folder: of `save_policy`.
        device: of torch.
        executed: control steps before the next decision, if fewer than in training.

    Raises:
        FolderError: naming the first file, tensor, shape or statistic that is wrong, or an `executed` that does not fit.
    """
    _require_files(folder, "spec.json", "config.yaml")
    try:
        spec = PolicySpec.load(folder / "spec.json")
        if executed is not None:
            if not 1 <= executed <= spec.executed:
                raise FolderError(f"executed must lie in 1..{spec.executed}, what {folder} was trained with; got {executed}")
            spec = spec.model_copy(update={"executed": executed})
        config = TypeAdapter(AnyPolicyConfig).validate_python(yaml.safe_load((folder / "config.yaml").read_text()))
        if isinstance(config, SmolVlaConfig):
            _require_files(folder, "config.json", "model.safetensors", "policy_preprocessor.json", "policy_postprocessor.json")
            return make_policy(config, spec, folder).to(device)
        _require_files(folder, "policy.safetensors")
        weights = load_file(folder / "policy.safetensors")
    except (ValidationError, yaml.YAMLError, SafetensorError) as error:
        raise FolderError(f"{folder} cannot be read: {error}") from error
    policy = VlaPolicy(config, spec)
    _load_strictly(policy, weights, folder)
    return policy.to(device)


def _require_files(folder: Path, *names: str) -> None:
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise FolderError(f"{folder} is not a policy folder: {', '.join(missing)} missing")


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
