"""A policy as a robot runs it: one observation in, one chunk out, the same call for torch, onnxruntime and a policy server.

This module imports no torch: backends are imported when a bundle is opened with them.

B batch · K chunk steps · A action dimensions
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from policies.bundle import Bundle, BundleError
from policies.bundle_folder import ONNX, SAMPLE, read_bundle
from policies.interface import Observation, PolicyError, SpecError
from policies.sample import Sample, load_sample

Backend = Literal["auto", "torch", "onnx"]


@dataclass(frozen=True)
class Prefix:
    """What the robot will do anyway: the last chunk's steps from the observation on (real-time chunking)."""

    actions: np.ndarray
    """`(P, A)` float32 in the spec's units, P ≤ K."""
    committed: int
    """How many of them will have been executed before the new chunk can take over, at most P."""


Act = Callable[[Observation, np.ndarray | None, Prefix | None], np.ndarray]
"""Checked observation with batch B, noise `(B, *noise_shape)` where the policy has one, and a prefix where it takes one →
actions `(B, K, A)` float32."""


class DeployedPolicy(Protocol):
    """What the robot's runtime calls. Not for several threads at once."""

    @property
    def bundle(self) -> Bundle:
        """What the policy sees and does, and how its actions move the robot."""
        ...

    @property
    def takes_prefix(self) -> bool:
        """Whether `chunk` conditions on a committed prefix; a policy that does not ignores it."""
        ...

    def chunk(self, observation: Observation, prefix: Prefix | None = None, seed: int = 0) -> np.ndarray:
        """Decide.

        Args:
            observation: every entry of the spec, numpy, `(B, ...)`.
            prefix: what the chunk is to continue; `None` for one that owes nothing to the last.
            seed: of the noise that a chunk starts from; the same seed gives the same chunk in every backend.

        Returns:
            Actions `(B, K, A)` float32 in the spec's units.

        Raises:
            SpecError: the observation is not what the spec declares, or not finite.
            PolicyError: the policy gave no finite chunk, or could not be reached in time.
        """
        ...


class LocalPolicy:
    """A bundle in this process."""

    def __init__(self, bundle: Bundle, act: Act, takes_prefix: bool = False) -> None:
        self.bundle, self.takes_prefix = bundle, takes_prefix
        self._act = act

    def chunk(self, observation: Observation, prefix: Prefix | None = None, seed: int = 0) -> np.ndarray:
        check_observation(self.bundle, observation)
        check_prefix(self.bundle, prefix)
        batch = len(next(iter(observation.values())))
        return self.act(observation, draw_noise(self.bundle, batch, seed), prefix if self.takes_prefix else None)

    def act(self, observation: Observation, noise: np.ndarray | None, prefix: Prefix | None = None) -> np.ndarray:
        """The chunk from noise `(B, *noise_shape)` that is given. Raises `PolicyError` for NaN."""
        actions = self._act(observation, noise, prefix)
        if not np.isfinite(actions).all():
            raise PolicyError("the policy's chunk is NaN or infinite; nothing of it may be executed")
        return actions


def open_bundle(folder: Path, backend: Backend = "auto", device: str = "cpu") -> LocalPolicy:
    """Check a bundle, load its policy, and see that it still acts as recorded.

    Args:
        folder: the bundle.
        backend: `auto` takes onnxruntime where bundle and machine have it, else torch.
        device: of torch.

    Raises:
        BundleError: the bundle is not whole, this machine cannot run it, or the policy acts differently from the sample.
    """
    bundle = read_bundle(folder)
    if backend == "onnx" and bundle.onnx is None:
        raise BundleError(f"{folder} has no {ONNX}: export it with --onnx, or run it with torch or from a policy server")
    if backend == "auto":
        backend = "onnx" if bundle.onnx is not None and importlib.util.find_spec("onnxruntime") else "torch"
    try:
        if backend == "onnx":
            from policies.deployed_onnx import load_onnx

            act, takes_prefix = load_onnx(folder / ONNX, bundle), False
        else:
            from policies.deployed_torch import load_torch

            act, takes_prefix = load_torch(folder / "policy", bundle, device)
    except ImportError as error:
        raise BundleError(
            f"this machine lacks package '{error.name}' for backend {backend}: install the extra 'train' (torch) or 'onnx', "
            "or ask a policy server (`vla-rl serve` on another machine)"
        ) from error
    policy = LocalPolicy(bundle, act, takes_prefix)
    replay_sample(policy, load_sample(folder / SAMPLE), f"{folder} on {backend}")
    return policy


def replay_sample(policy: LocalPolicy, sample: Sample, what: str) -> float:
    """Let a policy decide on the recorded observations. Returns the largest difference in half action ranges.

    Raises:
        BundleError: a chunk differs by more than the bundle's tolerance; names the action and step.
    """
    spec, tolerance = policy.bundle.spec, policy.bundle.tolerance
    actions = np.concatenate([policy.act(*sample.row(index)) for index in range(len(sample))])
    half = (np.array(spec.action.high, np.float32) - np.array(spec.action.low, np.float32)) / 2
    difference = np.abs(actions - sample.chunk) / half
    if difference.max() > tolerance:
        row, step, index = np.unravel_index(difference.argmax(), difference.shape)
        raise BundleError(
            f"{what} does not act as recorded: action '{spec.action.names[index]}' at step {step} of decision {row} is "
            f"{actions[row, step, index]:.6g}, recorded {sample.chunk[row, step, index]:.6g}, which differs by {difference.max():.2g} "
            f"of half its range (allowed: {tolerance:g}); weights, observation terms or libraries are not those of the export"
        )
    return float(difference.max())


def draw_noise(bundle: Bundle, batch: int, seed: int) -> np.ndarray | None:
    """Standard normal `(batch, *noise_shape)` float32, the same on every machine; `None` for a policy without."""
    if bundle.noise_shape is None:
        return None
    return np.random.default_rng(seed).standard_normal((batch, *bundle.noise_shape), np.float32)


def check_observation(bundle: Bundle, observation: Observation) -> None:
    """Raise `SpecError` unless the observation is what the spec declares, finite, and of one batch size."""
    bundle.spec.check(observation)
    sizes = {name: len(value) for name, value in observation.items()}
    if len(set(sizes.values())) != 1 or 0 in sizes.values():
        raise SpecError(f"observation entries need one batch size of at least 1, got {sizes}")
    for entry in bundle.spec.entries:
        if entry.dtype == "float32" and not np.isfinite(observation[entry.name]).all():
            raise SpecError(f"observation entry '{entry.name}' holds NaN or infinite values; no chunk was made")


def check_prefix(bundle: Bundle, prefix: Prefix | None) -> None:
    """Raise `SpecError` unless the prefix is a finite float32 start of a chunk."""
    if prefix is None:
        return
    chunk, actions, found = bundle.spec.chunk, bundle.spec.action.dim, prefix.actions
    fits = found.ndim == 2 and found.shape[0] <= chunk and found.shape[1] == actions and found.dtype == np.float32
    if not fits or not np.isfinite(found).all():
        raise SpecError(f"a prefix must be finite float32 (P, {actions}) with P ≤ {chunk}, got {found.shape} {found.dtype}")
    if not 0 <= prefix.committed <= len(found):
        raise SpecError(f"of a prefix of {len(found)} steps {prefix.committed} cannot be committed")
