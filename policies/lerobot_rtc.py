"""LeRobot's real-time chunking over our flow policies, for comparison with `policies.heads.guidance`.

Its guidance is the paper's without the Jacobian: the velocity is evaluated before gradients are recorded, so that the pull is
the weighted error itself (LeRobot 0.6, `policies/rtc/modeling_rtc.py`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from lerobot.configs import RTCAttentionSchedule
from lerobot.policies.rtc.configuration_rtc import RTCConfig
from lerobot.policies.rtc.modeling_rtc import RTCProcessor

from policies.deployed import Act, Prefix
from policies.folder import load_policy
from policies.heads.chain import Network
from policies.heads.denoising import DenoisingHead
from policies.heads.flow import FlowProcess
from policies.interface import Observation, PolicyError
from policies.vla import VlaPolicy


def load_lerobot_rtc(folder: Path) -> Act:
    """A flow policy whose chunks LeRobot's processor guides. Raises `PolicyError` for other policies."""
    policy = load_policy(folder, "cpu")
    if not (isinstance(policy, VlaPolicy) and isinstance(policy.head, DenoisingHead) and policy.takes_prefix):
        raise PolicyError(f"{folder} has no flow head; LeRobot's real-time chunking guides flow policies")
    head = policy.head

    @torch.no_grad()
    def act(observation: Observation, noise: np.ndarray | None, prefix: Prefix | None) -> np.ndarray:
        assert noise is not None
        context, x = policy.encode(observation), torch.as_tensor(noise)
        if prefix is None:
            return policy.greedy(context, x).numpy()
        wanted = policy.normalizer["action"](torch.as_tensor(prefix.actions))[None]
        assert isinstance(head.process, FlowProcess)
        chunk = lerobot_chain(head.process, head.network(context.features), x, wanted, prefix.committed)
        return policy.normalizer["action"].inverse(chunk).numpy()

    return act


def lerobot_chain(process: FlowProcess, network: Network, noise: torch.Tensor, prefix: torch.Tensor, committed: int) -> torch.Tensor:
    """The greedy chain from `noise` `(B, K, A)` under LeRobot's guidance by `prefix` `(B, P, A)`, exponential weights."""
    processor = RTCProcessor(RTCConfig(prefix_attention_schedule=RTCAttentionSchedule.EXP, execution_horizon=prefix.shape[1]))
    x = noise
    for step in range(process.steps):
        at = torch.full((len(x),), step)
        time = process.time(at)
        velocity = processor.denoise_step(x, prefix, committed, time[0], lambda x, time=time: network(x, time).value)
        x = x - velocity / process.steps
    return x
