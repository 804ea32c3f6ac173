"""Latency of policies side by side, and of our wrapper against LeRobot's own chunk prediction.

Interleaved: each repeat measures every policy once on the same observation; ratios are medians over the repeats.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field

from policies.folder import load_policy
from policies.interface import Observation, Policy, PolicySpec, UserError
from vla_rl.compute import prepare, require_device
from vla_rl.config import ComputeConfig, Positive, Strict
from vla_rl.provenance import describe_environment


class LatencyConfig(Strict):
    """What to measure."""

    repeats: Annotated[int, Field(ge=2)] = 31
    """Interleaved repeats."""
    batch: Positive = 1
    """Observations per call; a robot has one."""
    threads: Positive = 1
    """CPU threads of torch."""
    device: str = Field(default="cpu")
    """Torch device."""
    compile: bool = False
    """Measure every policy of ours once more with its trunk compiled (`compute.compile`)."""
    out: Path | None = None
    """JSON file for the numbers."""


def bench_latency(folders: list[Path], config: LatencyConfig) -> dict[str, float]:
    """Measure greedy chunks of every policy folder, print and return median milliseconds and ratios to the first with quartiles.

    A LeRobot policy is measured twice: through our interface, and by LeRobot's processors and `predict_action_chunk`.
    """
    torch.set_num_threads(config.threads)
    require_device(config.device)
    if config.out is not None and not config.out.absolute().parent.is_dir():
        raise UserError(f"there is no folder {config.out.absolute().parent} for --out; make it first")
    calls: dict[str, Callable[[], object]] = {}
    for folder in folders:
        policy = load_policy(folder, config.device)
        obs = example(policy.spec, config.batch)
        calls[str(folder)] = _ours(policy, obs)
        if policy.config.name == "smolvla":
            calls[f"{folder} by LeRobot"] = _lerobots(policy, obs)
            if config.compile:
                print(f"{folder}: not compiled, LeRobot calls SmolVLA's layers past the compiled entry")
        elif config.compile:
            compute = ComputeConfig(device=config.device, compile=True)
            calls[f"{folder} compiled"] = _ours(prepare(load_policy(folder), compute), obs)
    for call in calls.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for repeat in range(config.repeats):
        for name in list(calls)[:: 1 if repeat % 2 else -1]:  # alternate the order, so that no one always goes first
            started = time.perf_counter()
            calls[name]()
            if config.device.startswith("cuda"):
                torch.cuda.synchronize(config.device)
            times[name].append(1e3 * (time.perf_counter() - started))
    result = _report(times)
    if config.out is not None:
        settings = config.model_dump(mode="json", exclude={"out"})
        config.out.write_text(json.dumps({**describe_environment(), "settings": settings, "milliseconds": result}, indent=1) + "\n")
    return result


def example(spec: PolicySpec, batch: int) -> Observation:
    """A random observation within the ranges of a spec, `(batch, ...)`."""
    rng = np.random.default_rng(0)
    obs: Observation = {}
    for entry in spec.entries:
        if entry.kind == "image":
            obs[entry.name] = rng.integers(0, 256, (batch, *entry.shape), dtype=np.uint8)
        elif entry.kind == "text":
            obs[entry.name] = np.array(["open the drawer"] * batch)
        else:
            obs[entry.name] = rng.uniform(entry.low, entry.high, (batch, *entry.shape)).astype(np.float32)
    return obs


def _ours(policy: Policy, obs: Observation) -> Callable[[], object]:
    generator = torch.Generator().manual_seed(0)

    @torch.no_grad()
    def call() -> object:
        return policy.sample(policy.encode(obs), "greedy", 1.0, generator)

    return call


def _lerobots(policy: Any, obs: Observation) -> Callable[[], object]:
    """What a LeRobot user runs: images as floats, preprocessor, `predict_action_chunk`, postprocessor."""
    spec: PolicySpec = policy.spec

    def call() -> object:
        batch: dict[str, Any] = {"task": list(map(str, obs[spec.of_kind("text")[0].name]))}
        for entry in spec.of_kind("image"):
            batch[entry.name] = torch.as_tensor(obs[entry.name]).permute(0, 3, 1, 2).float() / 255
        for entry in spec.of_kind("state"):
            batch[entry.name] = torch.as_tensor(obs[entry.name])
        values = policy.preprocessor(batch)
        batch = {name: value.to(policy.device) if torch.is_tensor(value) else value for name, value in values.items()}
        return policy.postprocessor(policy.lerobot.predict_action_chunk(batch))

    return call


def _report(times: dict[str, list[float]]) -> dict[str, float]:
    first, result = next(iter(times)), {}
    for name, values in times.items():
        ratios = [value / base for value, base in zip(values, times[first], strict=True)]
        result[name] = statistics.median(values)
        low, _, high = statistics.quantiles(ratios, n=4)
        print(f"{name:50} {result[name]:8.2f} ms   {statistics.median(ratios):6.3f} × the first ({low:.3f} – {high:.3f})")
        result |= {f"{name} ratio": statistics.median(ratios), f"{name} ratio, lower quartile": low, f"{name} ratio, upper quartile": high}
    return result
