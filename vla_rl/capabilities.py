"""Which head works with which algorithm: what a head supplies against what an algorithm needs.

The table in the README is `table()`; a test holds them against each other and trains every cell.
"""

from __future__ import annotations

from policies.config import (
    DiffusionHeadConfig,
    FlowHeadConfig,
    GaussianHeadConfig,
    HeadConfig,
    MeanFlowHeadConfig,
    TokenHeadConfig,
)
from policies.interface import Policy, SpecError
from vla_rl.config import AlgorithmConfig, DaggerConfig, GrpoConfig, OpdConfig, PpoConfig, SftConfig

HEADS: dict[str, HeadConfig] = {
    "tokens": TokenHeadConfig(),
    "gaussian": GaussianHeadConfig(),
    "flow": FlowHeadConfig(),
    "flow, learned noise": FlowHeadConfig(noise="learned"),
    "diffusion": DiffusionHeadConfig(),
    "meanflow": MeanFlowHeadConfig(),
    "any denoising head without noise": FlowHeadConfig(noise_level=0),
}

ALGORITHMS: dict[str, AlgorithmConfig] = {
    "sft": SftConfig(),
    "dagger": DaggerConfig(),
    "opd": OpdConfig(),
    "opd, sampled": OpdConfig(estimator="sampled"),
    "opd, distance": OpdConfig(signal="distance"),
    "grpo": GrpoConfig(),
    "dgrpo": GrpoConfig(distill=1.0),
    "ppo": PpoConfig(),
    "ppo with entropy bonus": PpoConfig(entropy_weight=0.01),
}


def missing(head: HeadConfig, algorithm: AlgorithmConfig) -> list[str]:
    """Capabilities that the algorithm needs and the head does not supply."""
    return sorted(algorithm.needs - head.supplies)


def require_capabilities(algorithm: AlgorithmConfig, policy: Policy, expert: bool = False) -> None:
    """Raise `SpecError` unless the policy's head supplies what the algorithm needs, also of a scripted expert as teacher."""
    head = policy.config.head
    lacking = missing(head, algorithm)
    if expert and not isinstance(algorithm, DaggerConfig) and "expert" not in head.supplies:
        lacking.append("expert")
    if lacking:
        settings = ", ".join(f"{name} {value}" for name, value in head.model_dump().items())
        raise SpecError(
            f"{algorithm.name} needs {', '.join(lacking)}, which this head does not supply ({settings}; it supplies"
            f" {', '.join(sorted(head.supplies))}); give a denoising head noise, or choose another head or algorithm (README, capabilities)"
        )


def table() -> str:
    """Markdown: heads down, algorithms across; ✓, or what is missing."""
    lines = [f"| head | {' | '.join(ALGORITHMS)} |", f"| --- | {' | '.join(':-:' for _ in ALGORITHMS)} |"]
    for name, head in HEADS.items():
        cells = ["needs " + ", ".join(lacking) if (lacking := missing(head, algorithm)) else "✓" for algorithm in ALGORITHMS.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)
