"""Bundles of small policies on the test spec, for tests."""

from __future__ import annotations

from pathlib import Path

import torch

from policies.action_map import ActionTerm
from policies.bundle import Bundle, ObservationTerm
from policies.config import HeadConfig, PolicyConfig
from policies.images import Pinhole
from policies.interface import Policy
from policies.pack import pack
from policies.vla import VlaPolicy
from tests.policies.helpers import IMAGE, SPEC, STATE, TEXT, observations

ACTION_MAP = (
    ActionTerm(name="dx", space="tool", target="x", kind="delta", unit="m", scale=1.0, low=-0.5, high=0.5),
    ActionTerm(name="grip", space="gripper", target="gripper", kind="absolute", unit="1", scale=2.0, offset=-0.5, low=0.0, high=1.0),
)
CAMERA = Pinhole(width_px=32, height_px=32, fx_px=40.0, fy_px=40.0, cx_px=15.5, cy_px=15.5)


def make_policy(head: HeadConfig) -> VlaPolicy:
    """A random policy on the test spec."""
    torch.manual_seed(0)
    return VlaPolicy(PolicyConfig(chunk=SPEC.chunk, executed=SPEC.executed, head=head), SPEC)


def describe(policy: Policy) -> Bundle:
    """A description that fits."""
    return Bundle(
        spec=SPEC,
        observations=(
            ObservationTerm(name=IMAGE, camera=CAMERA),
            ObservationTerm(name=STATE, scale=(0.5, 2.0), offset=(0.0, -1.0)),
            ObservationTerm(name=TEXT),
        ),
        action_map=ACTION_MAP,
        noise_shape=policy.noise_shape,
        delay_s=(0.0, 0.1),
        tolerance=1e-3,
        files={},
    )


def make_bundle(out: Path, head: HeadConfig, onnx: bool = False) -> VlaPolicy:
    """Pack a random policy. Returns it."""
    policy = make_policy(head)
    pack(policy, describe(policy), observations(3), out, onnx)
    return policy
