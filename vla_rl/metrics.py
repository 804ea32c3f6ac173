"""Metrics of training, besides success, that results keep and reports plot."""

from __future__ import annotations

METRICS = {
    "entropy": "entropy per factor [nat]",
    "reverse_kl": "KL(student‖teacher) per factor [nat]",
    "rollout_kl": "KL(rollout‖now) per factor [nat]",
    "reference_kl": "KL(policy‖reference) per factor [nat]",
    "ratio": "mean importance ratio",
    "clip_fraction": "share of ratios clipped",
    "ess_lost": "share of the effective sample size lost",
    "zero_variance_groups": "share of groups with equal outcomes",
    "log_prob_mismatch": "log-probability mismatch, rollout – training",
}
"""Metrics of training that are plotted where a run has them, with their axis labels."""


def is_kept(name: str) -> bool:
    """Whether results keep an entry of a log row: a metric, or a metric of one denoising step, such as `reverse_kl_step3`."""
    return name.partition("_step")[0] in METRICS
