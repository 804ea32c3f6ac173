"""An instruction as ByT5 token ids (arXiv 2105.13626), without transformers: one token per byte, then an end mark."""

from __future__ import annotations

import numpy as np

MAX_BYTES = 256
"""Longest instruction in tokens, the end mark included; what is longer is cut."""
END, FIRST_BYTE = 1, 3
"""Ids of the end mark and of byte 0; padding is 0."""


def byte_tokens(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Token ids and their mask, each `(1, MAX_BYTES)` int64."""
    ids = [byte + FIRST_BYTE for byte in text.encode()[: MAX_BYTES - 1]] + [END]
    tokens, mask = np.zeros((1, MAX_BYTES), np.int64), np.zeros((1, MAX_BYTES), np.int64)
    tokens[0, : len(ids)], mask[0, : len(ids)] = ids, 1
    return tokens, mask
