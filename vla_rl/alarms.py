"""What goes wrong quietly in likelihood-based training, as numbers in every log row and warnings when they leave their range.

B decisions · F factors
"""

from __future__ import annotations

from typing import Any

import torch

from policies.factors import Decision, Factors
from vla_rl.objectives.reduce import masked_mean

LIMITS = {
    "log_prob_mismatch": (1e-2, "rollout and training disagree on log-probabilities before any step: precision, mask or mode differ"),
    "ess_lost": (0.7, "few decisions carry the gradient: fewer passes, a smaller learning rate or a smaller clip"),
    "clip_fraction": (0.5, "most ratios are clipped: fewer passes or a smaller learning rate"),
    "zero_variance_groups": (0.9, "most groups have equal outcomes and teach nothing: start success too near 0 or 1, or a larger group"),
    "diverged_episodes": (0.0, "the physics broke down in some episodes, which count as failures: smaller action or randomisation ranges"),
}
"""Upper limit of a metric, and what to do above it."""


MOST = 80.0
"""Log-ratio above which its exponential is not told any larger, so that logs stay finite."""


def ratio_metrics(log_ratio: torch.Tensor, mask: torch.Tensor, clip: float, clip_high: float) -> dict[str, float]:
    """Mean importance ratio ρ, share clipped, and the share of the effective sample size lost: 1 − (Σρ)² / (n Σρ²).

    `log_ratio` `(B, F)` at the level that the surrogate clips at. Finite for every finite one.
    """
    logs = log_ratio.detach()[mask]
    ratio = logs.clamp(max=MOST).exp()
    clipped = (ratio < 1 - clip) | (ratio > 1 + clip_high)
    kept = (2 * logs.logsumexp(0) - (2 * logs).logsumexp(0)).exp() / len(logs)
    return {"ratio": ratio.mean().item(), "clip_fraction": clipped.float().mean().item(), "ess_lost": 1 - kept.item()}


def factor_metrics(student: Factors, target: Factors | None, decision: Decision, behaviour: torch.Tensor) -> dict[str, float]:
    """Entropy and KL(rollout‖now) per factor, and with a target the reverse KL; KLs also per denoising step [nat].

    KL(rollout‖now) is estimated by ρ − 1 − log ρ (joschu.net/blog/kl-approx.html) from `behaviour` `(B, F)`, the rollout's
    log-probabilities.
    """
    log_ratio = torch.where(student.mask, student.log_prob().detach() - behaviour, 0)
    metrics = {"entropy": masked_mean(student.entropy(), student.mask).item()}
    metrics |= _mean_and_steps("rollout_kl", log_ratio.clamp(max=MOST).exp() - 1 - log_ratio, student.mask, decision)
    if target is not None:
        metrics |= _mean_and_steps("reverse_kl", student.kl(target, "reverse"), student.mask, decision)
    return metrics


def _mean_and_steps(name: str, value: torch.Tensor, mask: torch.Tensor, decision: Decision) -> dict[str, float]:
    """Mean of `value` `(B, F)` over the factors that count, and over those of each denoising step where the head has steps."""
    metrics = {name: masked_mean(value, mask).item()}
    if "index" in decision.values:
        index = decision.values["index"]
        metrics |= {f"{name}_step{step}": value[mask & (index == step)].mean().item() for step in index[mask].unique().cpu().tolist()}
    return metrics


def alarms(row: dict[str, Any]) -> dict[str, str]:
    """A sentence for every metric of a log row that is above its limit, or NaN."""
    return {name: f"{name} = {row[name]:.3g}: {advice}" for name, (limit, advice) in LIMITS.items() if not row.get(name, 0.0) <= limit}
