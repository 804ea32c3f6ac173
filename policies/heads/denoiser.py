"""The network inside denoising heads: noisy chunk, time and trunk features through a small transformer.

B batch · K chunk steps · A action dimensions · W trunk width
"""

from __future__ import annotations

import torch
from diffusers.models.embeddings import get_timestep_embedding
from torch import nn
from transformers import BertConfig, BertModel

LAYERS = 2


class Denoiser(nn.Module):
    """One token per chunk step: trunk feature + noisy action + times → prediction `(B, K, A)`.

    Attention is the plain one: MeanFlow differentiates through the network forwards, which fused kernels do not support.
    """

    def __init__(self, width: int, heads: int, action_dim: int, chunk: int, times: int = 1) -> None:
        super().__init__()
        self.width = width
        self.norm = nn.LayerNorm(width)
        self.action = nn.Linear(action_dim, width)
        self.time = nn.Sequential(nn.Linear(times * width, width), nn.SiLU(), nn.Linear(width, width))
        config = BertConfig(
            vocab_size=1,
            hidden_size=width,
            num_hidden_layers=LAYERS,
            num_attention_heads=heads,
            intermediate_size=2 * width,
            max_position_embeddings=chunk,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        self.trunk = BertModel(config, add_pooling_layer=False)
        self.trunk.set_attn_implementation("eager")
        self.out = nn.Linear(width, action_dim)

    def forward(self, features: torch.Tensor, x: torch.Tensor, *times: torch.Tensor) -> torch.Tensor:
        """Features `(B, K, W)`, noisy chunks `(B, K, A)` and times `(B,)` in [0, 1] → `(B, K, A)`."""
        embedded = torch.cat([get_timestep_embedding(1000 * time, self.width).to(x) for time in times], -1)
        tokens = self.norm(features) + self.action(x) + self.time(embedded)[:, None]
        return self.out(self.trunk(inputs_embeds=tokens).last_hidden_state)
