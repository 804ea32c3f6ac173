"""A bundle's policy folder as a deployed policy, through torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from policies.bundle import Bundle, BundleError
from policies.deployed import Act
from policies.folder import load_policy
from policies.interface import Observation


def load_torch(folder: Path, bundle: Bundle, device: str = "cpu") -> Act:
    """Load the policy folder. Raises `BundleError` if it starts from other noise than the bundle says."""
    policy = load_policy(folder, device)
    if policy.noise_shape != bundle.noise_shape:
        raise BundleError(f"{folder} starts from noise of shape {policy.noise_shape}, bundle.json says {bundle.noise_shape}")

    @torch.no_grad()
    def act(observation: Observation, noise: np.ndarray | None) -> np.ndarray:
        given = None if noise is None else torch.as_tensor(noise, device=device)
        return policy.greedy(policy.encode(observation), given).float().cpu().numpy()

    return act
