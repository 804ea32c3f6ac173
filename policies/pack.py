"""Write a bundle: a policy, what a robot must know about it, and observations to record its decisions on.

The bundle is written beside its place, opened as a robot would, run on its own sample by every backend, and only then moved.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import torch

from policies.action_map import map_actions
from policies.bundle import Bundle, Onnx
from policies.bundle_folder import ONNX, SAMPLE, write_bundle
from policies.deployed import LocalPolicy, draw_noise, open_bundle, replay_sample
from policies.folder import save_policy
from policies.interface import Observation, Policy, UserError
from policies.sample import Sample, component_names, save_sample


def pack(policy: Policy, bundle: Bundle, observation: Observation, out: Path, onnx: bool = False) -> Bundle:
    """Write a bundle to `out`, which does not exist yet.

    Args:
        policy: on the CPU.
        bundle: its description; file hashes and ONNX are filled in here.
        observation: `(B, ...)` numpy, what the policy meets when it works.
        out: the folder.
        onnx: also write `policy.onnx`, and hold it against torch.

    Returns:
        The description as it was written.

    Raises:
        UserError: `out` exists, or the policy has no ONNX form.
        BundleError: what was written does not act as the policy; nothing is left at `out`.
    """
    if out.exists():
        raise UserError(f"{out} exists already; choose another --out, a bundle is never changed")
    part = out.with_name(out.name + ".partial")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        save_policy(policy, part / "policy")
        sample = record(policy, bundle, observation)
        save_sample(part / SAMPLE, sample)
        if onnx:
            bundle = bundle.model_copy(update={"onnx": _add_onnx(policy, bundle, sample, part / ONNX)})
        bundle = write_bundle(part, bundle)
        for backend in ("torch", "onnx") if onnx else ("torch",):
            open_bundle(part, backend)
        part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return bundle


@torch.no_grad()
def record(policy: Policy, bundle: Bundle, observation: Observation) -> Sample:
    """What the policy and the action map make of B observations, each alone, as on a robot."""
    spec, batch = bundle.spec, len(next(iter(observation.values())))
    states = [entry.name for entry in spec.of_kind("state")]
    normalised = {name: policy.normalised(name, torch.as_tensor(observation[name])).numpy() for name in states}
    noise = draw_noise(bundle, batch, 0)
    chunks, targets, last = [], [], _some_commands(bundle, batch)
    for row in range(batch):
        seen = {name: value[row : row + 1] for name, value in observation.items()}
        given = None if noise is None else torch.as_tensor(noise[row : row + 1])
        chunks.append(policy.greedy(policy.encode(seen), given)[0].float().numpy())
        targets.append(map_actions(bundle.action_map, spec.action, chunks[-1], last[row]))
    return Sample(observation, normalised, noise, np.stack(chunks), last, np.stack(targets), component_names(bundle))


def _some_commands(bundle: Bundle, batch: int) -> np.ndarray:
    """`(batch, A)` float32 last commands to map chunks from: any will do that lies inside the limits."""
    low, high = np.array([term.clip for term in bundle.action_map], np.float32).T
    low = np.where(np.isfinite(low), low, np.minimum(high, 1.0) - 1)
    high = np.where(np.isfinite(high), high, low + 1)
    return np.random.default_rng(0).uniform(low, high, (batch, len(low))).astype(np.float32)


def _add_onnx(policy: Policy, bundle: Bundle, sample: Sample, path: Path) -> Onnx:
    """Write the file and say how far it is from torch on the sample. Raises `BundleError` beyond the tolerance."""
    try:
        from policies.deployed_onnx import load_onnx
        from policies.export_onnx import export_onnx

        opset = export_onnx(policy, path)
        exported = LocalPolicy(bundle, load_onnx(path, bundle))
    except ImportError as error:
        raise UserError(f"--onnx needs package '{error.name}': install the extra 'onnx'") from error
    return Onnx(opset=opset, max_difference=replay_sample(exported, sample, path.name))
