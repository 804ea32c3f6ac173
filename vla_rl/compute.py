"""Device, precision and compilation of policies and critics; a device that is missing is an error, never replaced."""

from __future__ import annotations

import torch

from policies.interface import Policy, UserError
from vla_rl.config import ComputeConfig


def require_device(name: str) -> torch.device:
    """The torch device `name`. Raises `UserError` when this machine does not have it."""
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"compute.device {name} cannot be used here: {reason}; there is cpu{_others()}") from error
    return device


def prepare(policy: Policy, config: ComputeConfig) -> Policy:
    """Move a policy to the device, set the precision of its backbone, and compile that if asked for."""
    policy.to(require_device(config.device))
    policy.autocast = torch.bfloat16 if config.precision == "bf16" else None
    if config.compile:
        if policy.config.name == "smolvla":
            raise UserError("compute.compile has no effect on SmolVLA: LeRobot calls its layers past the compiled entry; set it to false")
        policy.trunk.compile(dynamic=True)  # in place: names of weights stay
    return policy


def _others() -> str:
    return f" and {', '.join(f'cuda:{i}' for i in range(torch.cuda.device_count()))}" if torch.cuda.is_available() else " only"
