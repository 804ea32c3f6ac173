"""A small vision-language-action policy: image, instruction and proprioception tokens through one transformer trunk.

images ─► encoder ──────┐
instruction ─► encoder ─┼─► BERT trunk over [text, state, image tokens, K step queries] ─► head ─► chunk (K, A)
state ─► normalise ─────┘

B batch · K chunk steps · A action dimensions · W trunk width
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import BertConfig, BertModel

from policies.config import (
    DiffusionHeadConfig,
    FlowHeadConfig,
    GaussianHeadConfig,
    HeadConfig,
    MeanFlowHeadConfig,
    PolicyConfig,
    TokenHeadConfig,
)
from policies.factors import Decision, Factors
from policies.heads.denoising import DenoisingHead
from policies.heads.gaussian import GaussianHead
from policies.heads.meanflow import MeanFlowHead
from policies.heads.tokens import TokenHead
from policies.interface import Mode, Observation, PolicyError, PolicySpec, SpecError
from policies.language import ByteEncoder, MiniLmEncoder, MiniLmWordsEncoder
from policies.normalize import Normalizer
from policies.vision import ConvEncoder, EfficientNetLiteEncoder, KeypointEncoder

Head = TokenHead | GaussianHead | DenoisingHead | MeanFlowHead


class Size(NamedTuple):
    """Dimensions of one policy size."""

    width: int
    layers: int
    heads: int
    channels: tuple[int, int]


SIZES = {
    "tiny": Size(width=128, layers=2, heads=4, channels=(48, 96)),
    "small": Size(width=256, layers=4, heads=8, channels=(96, 192)),
    "base": Size(width=512, layers=8, heads=8, channels=(128, 256)),
}


LANGUAGES = {"bytes": ByteEncoder, "minilm": MiniLmEncoder, "minilm-words": MiniLmWordsEncoder}


@dataclass(frozen=True)
class VlaContext:
    """Trunk output at the step queries, `(B, K, W)`."""

    features: torch.Tensor

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, index: torch.Tensor) -> VlaContext:
        return VlaContext(self.features[index])


class VlaPolicy(nn.Module):
    """The project's own `ChunkPolicy` (see `policies.interface`)."""

    def __init__(self, config: PolicyConfig, spec: PolicySpec) -> None:
        super().__init__()
        _require_supported(spec)
        self.config, self.spec = config, spec
        self.autocast: torch.dtype | None = None  # lower precision of the backbone; heads and log-probabilities stay float32
        size = SIZES[config.size]
        self.normalizer = Normalizer(spec)
        self.language = LANGUAGES[config.language](size.width)
        encoders = [_image_encoder(config, size, entry.shape[0]) for entry in spec.of_kind("image")]
        self.vision = nn.ModuleList(encoders)
        self.state = nn.Sequential(
            nn.Linear(sum(entry.shape[0] for entry in spec.of_kind("state")), size.width), nn.SiLU(), nn.Linear(size.width, size.width)
        )
        self.queries = nn.Parameter(torch.randn(spec.chunk, size.width) * 0.02)
        tokens = 2 + sum(encoder.num_tokens for encoder in encoders) + spec.chunk
        self.trunk = BertModel(
            BertConfig(
                vocab_size=1,
                hidden_size=size.width,
                num_hidden_layers=size.layers,
                num_attention_heads=size.heads,
                intermediate_size=4 * size.width,
                max_position_embeddings=tokens,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
            ),
            add_pooling_layer=False,
        )
        self.head = _head(config.head, size, spec)

    @property
    def width(self) -> int:
        """D of `pooled`."""
        return self.queries.shape[1]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.queries.device

    def statistics(self) -> dict[str, torch.Tensor]:
        """Normalisation buffers by name."""
        return self.normalizer.state_dict()

    def normalised(self, name: str, value: torch.Tensor) -> torch.Tensor:
        """State entry `name` `(B, S)`, its range mapped to [-1, 1]."""
        return self.normalizer[name](value)

    def encode(self, obs: Observation) -> VlaContext:
        """Run encoders and trunk on B observations, numpy or torch. Raises `SpecError` for an observation off the spec."""
        self.spec.check(obs)
        with torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None):
            return VlaContext(self._features(obs).float())

    def save(self, folder: Path) -> None:
        """Write `policy.safetensors`; a crash leaves the old file or the new one."""
        part = folder / "policy.safetensors.part"
        save_file({name: value.contiguous() for name, value in self.state_dict().items()}, part)
        os.replace(part, folder / "policy.safetensors")

    def _features(self, obs: Observation) -> torch.Tensor:
        images, states = (
            [torch.as_tensor(obs[entry.name], device=self.device) for entry in self.spec.of_kind(kind)] for kind in ("image", "state")
        )
        return self.features(self.language(np.asarray(obs[self.spec.of_kind("text")[0].name])), images, states)

    def features(self, text: torch.Tensor, images: Sequence[torch.Tensor], states: Sequence[torch.Tensor]) -> torch.Tensor:
        """The trunk's output `(B, K, W)` for an embedded instruction, with images and states in the order of the spec.

        Args:
            text: `(B, W)`.
            images: each `(B, H, W, 3)` uint8.
            states: each `(B, S)` float32 in the spec's units.
        """
        seen = [encoder(image, text) for encoder, image in zip(self.vision, images, strict=True)]
        felt = [self.normalizer[entry.name](state) for entry, state in zip(self.spec.of_kind("state"), states, strict=True)]
        queries = self.queries.expand(len(text), -1, -1)
        tokens = torch.cat([text[:, None], self.state(torch.cat(felt, -1))[:, None], *seen, queries], 1)
        return self.trunk(inputs_embeds=tokens).last_hidden_state[:, -self.spec.chunk :]

    def sample(
        self, context: VlaContext, mode: Mode = "stochastic", temperature: float = 1.0, generator: torch.Generator | None = None
    ) -> tuple[torch.Tensor, Decision]:
        """Draw one chunk `(B, K, A)` per context row, in the spec's units."""
        chunk, decision = self.head.sample(context.features, mode, temperature, generator)
        return self.normalizer["action"].inverse(chunk), decision

    @property
    def noise_shape(self) -> tuple[int, int] | None:
        """Shape of the initial noise of a greedy chunk, if the head has one."""
        return self.head.noise_shape

    def greedy(self, context: VlaContext, noise: torch.Tensor | None) -> torch.Tensor:
        """The greedy chunk `(B, K, A)` in the spec's units, from `noise` `(B, *noise_shape)`."""
        return self.normalizer["action"].inverse(self.head.greedy(context.features, noise))

    @property
    def takes_prefix(self) -> bool:
        """Whether the head is of the flow kind."""
        return isinstance(self.head, DenoisingHead) and self.head.takes_prefix

    def guided(self, context: VlaContext, noise: torch.Tensor, prefix: torch.Tensor, committed: int) -> torch.Tensor:
        """The greedy chunk `(B, K, A)` drawn to `prefix` `(B, P, A)`, in the spec's units."""
        if not (isinstance(self.head, DenoisingHead) and self.head.takes_prefix):
            raise PolicyError(f"a {self.config.head.name} head cannot continue a chunk; real-time chunking needs a flow head")
        wanted = self.normalizer["action"](prefix)
        return self.normalizer["action"].inverse(self.head.guided(context.features, noise, wanted, committed))

    def factors(self, context: VlaContext, decision: Decision, mask: torch.Tensor) -> Factors:
        """Factors of `decision` at `context`; `mask` `(B, K, A)` bool."""
        return self.head.factors(context.features, decision, mask)

    def implied_factors(self, mean: torch.Tensor, std: float, decision: Decision, mask: torch.Tensor) -> Factors:
        """Factors implied by N(mean, std²) around the chunk `mean` `(B, K, A)` in the spec's units."""
        return self.head.implied_factors(self.normalizer["action"](mean), std, decision, mask)

    def sft_loss(
        self, context: VlaContext, chunk: torch.Tensor, mask: torch.Tensor, weight: torch.Tensor, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """The head's loss of demonstrated chunks `(B, K, A)`, weighted mean. Scalar."""
        return self.head.loss(context.features, self.normalizer["action"](chunk), mask, weight, generator)

    def pooled(self, context: VlaContext) -> torch.Tensor:
        """`(B, W)` mean over the step queries."""
        return context.features.mean(1)


def _head(config: HeadConfig, size: Size, spec: PolicySpec) -> Head:
    match config:
        case TokenHeadConfig():
            return TokenHead(size.width, spec.action.dim, config.bins)
        case GaussianHeadConfig():
            return GaussianHead(size.width, spec.action.dim, config)
        case FlowHeadConfig() | DiffusionHeadConfig():
            return DenoisingHead(size.width, size.heads, spec.action.dim, spec.chunk, config)
        case MeanFlowHeadConfig():
            return MeanFlowHead(size.width, size.heads, spec.action.dim, spec.chunk, config)


def _image_encoder(config: PolicyConfig, size: Size, image_px: int) -> ConvEncoder | KeypointEncoder | EfficientNetLiteEncoder:
    match config.vision:
        case "conv":
            return ConvEncoder(size.channels, size.width, image_px)
        case "keypoints":
            return KeypointEncoder(size.channels[0] // 2, size.width, image_px)
        case "efficientnet-lite0":
            return EfficientNetLiteEncoder(size.width, image_px)


def _require_supported(spec: PolicySpec) -> None:
    """This policy wants one text entry and at least one state; images, if there are any, square and in multiples of 16."""
    if len(spec.of_kind("text")) != 1 or not spec.of_kind("state"):
        kinds = [entry.kind for entry in spec.entries]
        raise SpecError(f"the VLA policy needs one text entry and at least one state, the spec has {kinds}")
    for entry in spec.of_kind("image"):
        if entry.shape[0] != entry.shape[1] or entry.shape[0] % 16:
            raise SpecError(
                f"image entry '{entry.name}' is {entry.shape[:2]}; the VLA policy needs square images in multiples of 16 pixels"
            )
