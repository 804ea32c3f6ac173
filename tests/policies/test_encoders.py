"""Image and instruction encoders: a named thing is found, padding changes nothing, frozen weights stay out of the policy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from policies.language import MiniLmWordsEncoder
from policies.vision import KeypointEncoder

COLOURS = {"red": (220, 30, 30), "green": (30, 170, 50), "blue": (30, 60, 220)}
PHRASES = ("reach the {} block", "move the gripper above the {} block")
WIDTH = 64


def scenes(batch: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, torch.Tensor]:
    """Small squares of three colours, an instruction that names one, and where that one is `(B, 2)` in [-1, 1]."""
    image = np.full((batch, 32, 32, 3), 120, np.uint8)
    corner = rng.integers(0, 29, (batch, len(COLOURS), 2))
    named = rng.integers(len(COLOURS), size=batch)
    for row in range(batch):
        order = [index for index in range(len(COLOURS)) if index != named[row]] + [named[row]]  # the named one covers others
        for index in order:
            x, y = corner[row, index]
            image[row, y : y + 4, x : x + 4] = list(COLOURS.values())[index]
    text = np.array([PHRASES[rng.integers(2)].format(list(COLOURS)[index]) for index in named])
    return image, text, torch.tensor(corner[np.arange(batch), named] / 14.0 - 1, dtype=torch.float32)


def test_keypoints_learn_to_find_what_the_instruction_names() -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    language, vision, read = MiniLmWordsEncoder(WIDTH), KeypointEncoder(24, WIDTH, 32), nn.Linear(WIDTH, 2)
    parameters = [*language.parameters(), *vision.parameters(), *read.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=3e-3)

    def error(batch: int) -> torch.Tensor:
        image, text, place = scenes(batch, rng)
        return (read(vision(torch.as_tensor(image), language(text))[:, 0]) - place).square().mean()

    for _ in range(300):
        optimizer.zero_grad()
        loss = error(64)
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        assert error(500) < 0.02  # of a variance of 0.36; 0.02 is two pixels


def test_words_are_pooled_without_their_padding() -> None:
    torch.manual_seed(0)
    language = MiniLmWordsEncoder(WIDTH)
    text = np.array(["go", "reach the red block beside the bowl", "go"])
    together = language(text)
    assert together.shape == (3, WIDTH)
    assert torch.equal(together[0], together[2])
    assert torch.allclose(language(text[:1])[0], together[0], atol=1e-6)
    assert not torch.allclose(together[0], together[1], atol=0.1)


def test_frozen_words_are_no_weights_of_the_policy() -> None:
    assert sum(value.numel() for value in MiniLmWordsEncoder(WIDTH).parameters()) == 384 * WIDTH + WIDTH + WIDTH + 1 + 2 * WIDTH


@pytest.mark.parametrize("image_px", [32, 64])
def test_keypoints_come_before_the_patches(image_px: int) -> None:
    encoder = KeypointEncoder(24, WIDTH, image_px)
    image = torch.randint(0, 256, (2, image_px, image_px, 3), dtype=torch.uint8)
    tokens = encoder(image, torch.randn(2, WIDTH))
    assert tokens.shape == (2, encoder.num_tokens, WIDTH) == (2, 1 + (image_px // 16) ** 2, WIDTH)
