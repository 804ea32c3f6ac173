"""Proximal policy optimisation over decisions (arXiv 1707.06347): a clipped policy gradient with a learned value baseline.

A decision is one step of the decision process: its reward is the discounted reward of the control steps it executed, and
what follows is discounted by γ^(executed). The value head reads the policy's own context, so that both share the backbone.

    D decisions · E episodes · F factors
"""

from __future__ import annotations

import torch
from torch import nn

from policies.interface import Policy
from vla_rl.alarms import factor_metrics, ratio_metrics
from vla_rl.batch import Batch
from vla_rl.config import PpoConfig
from vla_rl.objectives.advantage import chunk_reward, generalised_advantage
from vla_rl.objectives.reduce import decision_weight, masked_mean
from vla_rl.objectives.surrogate import clipped_surrogate, log_ratio
from vla_rl.optimize import Loss, adamw, gradient_passes, schedule, set_learning_rate
from vla_rl.scoring import SCORING_BATCH, mismatch
from vla_rl.teachers import Teacher


class ValueHead(nn.Module):
    """Pooled context `(B, D)` → value `(B,)`; zero at first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 256), nn.SiLU(), nn.Linear(256, 1))
        last = self.net[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """`(B, D)` → `(B,)`."""
        return self.net(pooled)[:, 0]


class Ppo:
    """Clipped policy gradient with GAE over decisions."""

    teacher: Teacher | None = None

    def __init__(self, policy: Policy, config: PpoConfig, accumulate: int = 1) -> None:
        self.policy, self.config, self.accumulate = policy, config, accumulate
        self.critic = ValueHead(policy.width).to(policy.device)
        groups = {config.lr: list(policy.parameters()), config.value_lr: list(self.critic.parameters())}
        if config.lr == config.value_lr:
            groups = {config.lr: [*policy.parameters(), *self.critic.parameters()]}
        self.optimizer = adamw(groups, config.weight_decay)

    def update(self, batch: Batch, generator: torch.Generator) -> dict[str, float]:
        """Improve on one rollout batch. Returns mean metrics over the gradient steps."""
        config = self.config
        set_learning_rate(self.optimizer, schedule(batch.version, config.updates, warmup=0))
        executed = batch.mask.any(2).sum(1)
        value, last_value = self._values(batch)
        reward = chunk_reward(batch.success_reward() if config.reward == "success" else batch.reward, config.discount)
        advantage, returns = generalised_advantage(
            reward, value, last_value, executed, batch.rollout, batch.terminated, config.discount, config.gae_lambda
        )
        metrics = {"value_explained": _explained(value, returns), "advantage_std": advantage.std().item()}
        metrics["reward_range"] = (reward.max() - reward.min()).item()
        if config.whiten:
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-6)
        factors = batch.factor_mask.sum(1)
        advantage = advantage * decision_weight(factors, batch.rollout, factors > 0, config.loss_mean)

        def loss(index: torch.Tensor) -> Loss:
            return self._loss(batch, index, advantage[index][:, None], returns[index], factors.float().mean())

        rows = torch.arange(len(batch))
        metrics["log_prob_mismatch"] = mismatch(self.policy, batch, rows[: config.minibatch])
        return metrics | gradient_passes(rows, loss, self.optimizer, config, self.accumulate, generator, factors)

    def _loss(self, batch: Batch, index: torch.Tensor, advantage: torch.Tensor, returns: torch.Tensor, usual: torch.Tensor) -> Loss:
        """`usual`: mean number of factors of a decision, so that the value error, too, is a mean over factors: minibatches add up."""
        config, behaviour = self.config, batch.log_prob[index]
        context = self.policy.encode(batch.obs_at(index))
        student = self.policy.factors(context, batch.decision[index], batch.mask[index])
        ratio = log_ratio(student.log_prob(), behaviour, student.mask, config.ratio)
        policy_loss = clipped_surrogate(ratio, advantage.expand(behaviour.shape), student.mask, config.ratio_clip)
        value_loss = 0.5 * (self.critic(self.policy.pooled(context)) - returns).square().sum() * usual / student.mask.sum()
        value = policy_loss + config.value_weight * value_loss
        if config.entropy_weight:
            value = value - config.entropy_weight * masked_mean(student.entropy(), student.mask)
        metrics = factor_metrics(student.detach(), None, batch.decision[index], behaviour) | {"value_loss": value_loss.item()}
        return Loss(value, metrics | ratio_metrics(ratio, student.mask, config.ratio_clip, config.ratio_clip))

    @torch.no_grad()
    def _values(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """V at every decision `(D,)` and at the last observation of every episode `(E,)`."""

        def values(at: list[dict[str, torch.Tensor]]) -> torch.Tensor:
            return torch.cat([self.critic(self.policy.pooled(self.policy.encode(obs))) for obs in at])

        decisions = torch.arange(len(batch)).split(SCORING_BATCH)
        episodes = torch.arange(len(next(iter(batch.last_obs.values())))).split(SCORING_BATCH)
        return values([batch.obs_at(i) for i in decisions]), values([batch.last_obs_at(i) for i in episodes])


def _explained(value: torch.Tensor, returns: torch.Tensor) -> float:
    """1 − Var(return − value) / Var(return): 1 is a perfect value head, 0 one that knows nothing."""
    return (1 - (returns - value).var() / returns.var().clamp_min(1e-8)).item()
