"""PPO settings for the tabletop tasks, for Isaac Lab's `train --rl_library rsl_rl`."""

from __future__ import annotations

from isaaclab.utils import configclass
from isaaclab_rl.rsl_rl import RslRlMLPModelCfg, RslRlOnPolicyRunnerCfg, RslRlPpoAlgorithmCfg


@configclass
class PpoCfg(RslRlOnPolicyRunnerCfg):
    """A few million samples for reach; batch sizes are those of a few hundred to a few thousand environments."""

    num_steps_per_env = 24
    max_iterations = 300
    save_interval = 50
    experiment_name = "tabletop"
    clip_actions = 1.0
    obs_groups = {"actor": ["policy"], "critic": ["policy"]}  # noqa: RUF012
    actor = RslRlMLPModelCfg(
        hidden_dims=[256, 128],
        activation="elu",
        obs_normalization=True,
        distribution_cfg=RslRlMLPModelCfg.GaussianDistributionCfg(init_std=0.6),
    )
    critic = RslRlMLPModelCfg(hidden_dims=[256, 128], activation="elu", obs_normalization=True)
    algorithm = RslRlPpoAlgorithmCfg(
        value_loss_coef=1.0,
        use_clipped_value_loss=True,
        clip_param=0.2,
        entropy_coef=0.003,
        num_learning_epochs=5,
        num_mini_batches=4,
        learning_rate=1e-3,
        schedule="adaptive",
        gamma=0.98,
        lam=0.95,
        desired_kl=0.01,
        max_grad_norm=1.0,
    )


@configclass
class WholeBodyPpoCfg(PpoCfg):
    """A few hundred million samples of the humanoid: 4,096 environments on a GPU."""

    max_iterations = 3000
    save_interval = 100
    experiment_name = "whole_body"
    actor = RslRlMLPModelCfg(
        hidden_dims=[512, 256, 128],
        activation="elu",
        obs_normalization=True,
        distribution_cfg=RslRlMLPModelCfg.GaussianDistributionCfg(init_std=0.3),
    )
    critic = RslRlMLPModelCfg(hidden_dims=[512, 256, 128], activation="elu", obs_normalization=True)
