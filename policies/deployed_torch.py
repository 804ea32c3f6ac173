"""A bundle's policy folder as a deployed policy, through torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from policies.bundle import Bundle, BundleError
from policies.deployed import Act, Prefix
from policies.folder import load_policy
from policies.interface import Observation


def load_torch(folder: Path, bundle: Bundle, device: str = "cpu") -> tuple[Act, bool]:
    """Load the policy folder; the bool says whether it takes a prefix.

    Raises `BundleError` if the policy starts from other noise than the bundle says.
    """
    policy = load_policy(folder, device)
    if policy.noise_shape != bundle.noise_shape:
        raise BundleError(f"{folder} starts from noise of shape {policy.noise_shape}, bundle.json says {bundle.noise_shape}")

    @torch.no_grad()
    def act(observation: Observation, noise: np.ndarray | None, prefix: Prefix | None) -> np.ndarray:
        given = None if noise is None else torch.as_tensor(noise, device=device)
        context = policy.encode(observation)
        if prefix is not None and given is not None:
            actions = torch.as_tensor(prefix.actions, device=device).expand(len(given), -1, -1)
            return policy.guided(context, given, actions, prefix.committed).float().cpu().numpy()
        return policy.greedy(context, given).float().cpu().numpy()

    return act, policy.takes_prefix
