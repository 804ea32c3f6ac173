"""A frame counter and time code drawn into images, for people as digits and for programs as black and white cells.

    bottom row of cells       frame counter, 16 bit, most significant bit left
    row of cells above it     time in milliseconds, 16 bit

Both wrap at 65,536. H, W of images are at least 32.
"""

from __future__ import annotations

import cv2
import numpy as np

BITS = 16
DIGITS_FROM_PX = 128
"""Narrower images carry cells only."""


def draw(image: np.ndarray, frame: int, time_ms: int) -> np.ndarray:
    """A copy of an image `(H, W, 3)` uint8 with both numbers drawn in."""
    marked = image.copy()
    cell = marked.shape[1] // BITS
    for row, number in enumerate((frame, time_ms), start=1):
        bits = (number >> np.arange(BITS - 1, -1, -1)) & 1
        cells = np.kron(255 * bits.astype(np.uint8)[None, :], np.ones((cell, cell), np.uint8))
        top = marked.shape[0] - row * cell
        marked[top : top + cell, : BITS * cell] = cells[..., None]
    if marked.shape[1] >= DIGITS_FROM_PX:
        text = f"{frame:06d} {time_ms / 1000:.3f}s"
        cv2.putText(marked, text, (2, 12), cv2.FONT_HERSHEY_PLAIN, 0.9, (255, 255, 255), 1)
    return marked


def read(image: np.ndarray) -> tuple[int, int]:
    """Frame counter and milliseconds, both modulo 65,536, of a marked image `(H, W, 3)`; compression may have blurred it."""
    cell = image.shape[1] // BITS
    numbers = []
    for row in (1, 2):
        top = image.shape[0] - row * cell
        cells = image[top : top + cell, : BITS * cell].reshape(cell, BITS, cell, 3)
        bits = cells.mean(axis=(0, 2, 3)) > 127
        numbers.append(int((bits << np.arange(BITS - 1, -1, -1)).sum()))
    return numbers[0], numbers[1]
