"""A bundle's recorded sample: observations, and what the policy and the action map made of them at export.

Arrays (safetensors, B rows):
    observation/<entry>   as the policy sees it; texts are in the header
    normalised/<entry>    the policy's normalisation of each state
    noise                 (B, *noise_shape), where the policy starts from noise
    chunk                 (B, K, A) actions
    last, target          (B, A) last commanded targets, and (B, K, A) the chunk's targets by the action map
The header names the components of every state, action and target in order, so that a permutation is seen, not only its effect.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from policies.action_map import map_actions
from policies.bundle import Bundle, BundleError
from policies.interface import Observation, SpecError

EXACT = 1e-5
"""Normalised values and targets may differ from the recorded ones by so much, relative to 1 or to the value."""


class _Header(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    components: dict[str, tuple[str, ...]]
    """Names by state entry; also of `action`, and of `target` as space/name [unit]."""
    texts: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Sample:
    """B recorded decisions."""

    observation: Observation
    normalised: dict[str, np.ndarray]
    noise: np.ndarray | None
    chunk: np.ndarray
    last: np.ndarray
    target: np.ndarray
    components: dict[str, tuple[str, ...]]

    def __len__(self) -> int:
        return len(self.chunk)

    def row(self, index: int) -> tuple[Observation, np.ndarray | None]:
        """Observation and noise of one row, with batch 1."""
        rows = slice(index, index + 1)
        return {name: value[rows] for name, value in self.observation.items()}, None if self.noise is None else self.noise[rows]


def component_names(bundle: Bundle) -> dict[str, tuple[str, ...]]:
    """What the header says for a bundle."""
    return {
        **{entry.name: entry.names for entry in bundle.spec.of_kind("state")},
        "action": bundle.spec.action.names,
        "target": tuple(f"{term.space}/{term.target} [{term.unit}]" for term in bundle.action_map),
    }


def save_sample(path: Path, sample: Sample) -> None:
    """Write the sample."""
    texts = {name: tuple(map(str, value)) for name, value in sample.observation.items() if value.dtype.kind == "U"}
    arrays = {f"observation/{name}": value for name, value in sample.observation.items() if name not in texts}
    arrays |= {f"normalised/{name}": value for name, value in sample.normalised.items()}
    arrays |= {"chunk": sample.chunk, "last": sample.last, "target": sample.target}
    if sample.noise is not None:
        arrays["noise"] = sample.noise
    header = _Header(components=sample.components, texts=texts)
    contiguous = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
    save_file(contiguous, path, metadata={"sample": header.model_dump_json()})


def load_sample(path: Path) -> Sample:
    """Read the sample. Raises `BundleError` for a file that is not one."""
    try:
        with safe_open(path, "np") as file:
            header = _Header.model_validate_json((file.metadata() or {}).get("sample", ""))
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        observation = {name.removeprefix("observation/"): value for name, value in arrays.items() if name.startswith("observation/")}
        return Sample(
            observation=observation | {name: np.array(texts) for name, texts in header.texts.items()},
            normalised={name.removeprefix("normalised/"): value for name, value in arrays.items() if name.startswith("normalised/")},
            noise=arrays.get("noise"),
            chunk=arrays["chunk"],
            last=arrays["last"],
            target=arrays["target"],
            components=header.components,
        )
    except (OSError, SafetensorError, ValidationError, KeyError, json.JSONDecodeError) as error:
        raise BundleError(f"{path} is not a bundle's sample: {type(error).__name__} {error}") from error


def check_sample(bundle: Bundle, path: Path) -> Sample:
    """Hold a bundle's interface against its sample: names and order, normalisation, action map. Needs no policy.

    Raises:
        BundleError: naming the first term that disagrees.
    """
    sample = load_sample(path)
    _check_names(bundle, sample)
    try:
        bundle.spec.check(sample.observation)
    except SpecError as error:
        raise BundleError(f"{path} does not fit the spec: {error}") from error
    if len(sample) == 0:
        raise BundleError(f"{path} holds no decision; export the policy again")
    _check_normalisation(bundle, sample)
    _check_targets(bundle, sample)
    return sample


def _check_names(bundle: Bundle, sample: Sample) -> None:
    declared = component_names(bundle)
    if declared.keys() != sample.components.keys():
        raise BundleError(f"bundle.json declares components of {sorted(declared)}, the recorded sample has {sorted(sample.components)}")
    for what, names in declared.items():
        recorded = sample.components[what]
        if len(names) != len(recorded):
            raise BundleError(f"'{what}' has {len(names)} components in bundle.json, {len(recorded)} in the recorded sample")
        for index, (name, before) in enumerate(zip(names, recorded, strict=True)):
            if name != before:
                order = " (the same names in another order)" if sorted(names) == sorted(recorded) else ""
                raise BundleError(f"component {index} of '{what}' is '{name}' in bundle.json, '{before}' in the recorded sample{order}")


def _check_normalisation(bundle: Bundle, sample: Sample) -> None:
    for term, entry in zip(bundle.observations, bundle.spec.entries, strict=True):
        if entry.kind == "state":
            value = sample.observation[term.name] * np.array(term.scale, np.float32) + np.array(term.offset, np.float32)
            _require_equal(value, _array(sample.normalised, term.name, value.shape), f"observation '{term.name}'", entry.names)


def _check_targets(bundle: Bundle, sample: Sample) -> None:
    spec = bundle.spec
    shape = (len(sample), spec.chunk, spec.action.dim)
    arrays = {"chunk": sample.chunk, "last": sample.last, "target": sample.target}
    chunk, last, target = (_array(arrays, name, shape if name != "last" else shape[::2]) for name in arrays)
    mapped = np.stack([map_actions(bundle.action_map, spec.action, *row) for row in zip(chunk, last, strict=True)])
    terms = [f"{name} → {term.target}" for name, term in zip(spec.action.names, bundle.action_map, strict=True)]
    _require_equal(mapped, target, "the action map", terms)


def _array(arrays: dict[str, np.ndarray], name: str, shape: tuple[int, ...]) -> np.ndarray:
    value = arrays.get(name)
    if value is None or value.shape != shape or value.dtype != np.float32 or not np.isfinite(value).all():
        found = "none" if value is None else f"{value.shape} {value.dtype}"
        raise BundleError(f"the recorded sample needs a finite float32 array '{name}' of shape {shape}, it has {found}")
    return value


def _require_equal(value: np.ndarray, recorded: np.ndarray, what: str, components: Sequence[str]) -> None:
    """Raise `BundleError` naming the component (last axis) in which `value` is furthest from what was recorded."""
    excess = (np.abs(value - recorded) / (EXACT * np.maximum(1, np.abs(recorded)))).reshape(-1, len(components))
    if excess.max() > 1:
        row, index = divmod(int(excess.argmax()), len(components))
        got, before = (array.reshape(excess.shape)[row, index] for array in (value, recorded))
        raise BundleError(
            f"{what}, component '{components[index]}': scale, offset or range in bundle.json give {got:.6g}, "
            f"{before:.6g} was recorded at export; the bundle was edited, export the policy again"
        )
