"""The greedy chunk of the project's own policy as an ONNX file: preprocessing of states and actions included, text as tokens."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import torch
from torch import nn

from policies.byte_tokens import byte_tokens
from policies.deployed_onnx import input_names
from policies.interface import Policy, UserError
from policies.language import ByteEncoder
from policies.vla import VlaPolicy

OPSET = 18


class ExportError(UserError):
    """A policy has no ONNX form."""


class _Greedy(nn.Module):
    """Inputs in the order of `input_names`, batch 1 → the greedy chunk `(1, K, A)` in the spec's units."""

    def __init__(self, policy: VlaPolicy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor, *arrays: torch.Tensor) -> torch.Tensor:
        policy = self.policy
        assert isinstance(policy.language, ByteEncoder)
        images, states = len(policy.spec.of_kind("image")), len(policy.spec.of_kind("state"))
        features = policy.features(policy.language.embed(tokens, mask), arrays[:images], arrays[images : images + states])
        noise = arrays[-1] if policy.noise_shape is not None else None
        return policy.normalizer["action"].inverse(policy.head.greedy(features, noise))


def export_onnx(policy: Policy, path: Path) -> int:
    """Write the file. Returns its opset.

    Raises:
        ExportError: a policy of another family or with another language encoder; such a policy runs behind a policy server.
    """
    if not isinstance(policy, VlaPolicy) or not isinstance(policy.language, ByteEncoder):
        kind = f"language '{policy.config.language}'" if isinstance(policy, VlaPolicy) else f"family '{policy.config.name}'"
        raise ExportError(f"a policy of {kind} has no ONNX form: export it without --onnx and run it with torch or `vla-rl serve`")
    spec = policy.spec
    tokens, mask = (torch.as_tensor(array) for array in byte_tokens("open the door"))
    images = [torch.zeros((1, *entry.shape), dtype=torch.uint8) for entry in spec.of_kind("image")]
    states = [torch.zeros((1, *entry.shape)) for entry in spec.of_kind("state")]
    noise = [] if policy.noise_shape is None else [torch.zeros((1, *policy.noise_shape))]
    logging.getLogger("onnxscript").setLevel(logging.ERROR)  # its optimiser warns about folds that it leaves alone
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the exporter, about itself
        torch.onnx.export(
            _Greedy(policy).eval(),
            (tokens, mask, *images, *states, *noise),
            str(path),
            input_names=input_names(spec, bool(noise)),
            output_names=["chunk"],
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    return OPSET
