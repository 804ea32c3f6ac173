"""Images of a chessboard as a camera with a bent lens takes them, pixel by pixel backwards: pixel, ray, board."""

from __future__ import annotations

import cv2
import numpy as np

from policies.images import Pinhole
from robot.calibration import Board

FINER = 2
"""Rays per pixel, each way."""


def photograph(camera: Pinhole, board: Board, turn: np.ndarray, position: np.ndarray) -> np.ndarray:
    """`(H, W, 3)` uint8. `turn` (rotation vector) and `position` [m] of the board's frame in the camera's."""
    height, width = camera.size
    offsets = (np.arange(FINER) + 0.5) / FINER - 0.5
    u = (np.arange(width)[:, None] + offsets).reshape(-1)
    v = (np.arange(height)[:, None] + offsets).reshape(-1)
    pixels = np.stack(np.meshgrid(u, v), -1).reshape(-1, 1, 2)
    x, y = cv2.undistortPoints(pixels, camera.matrix, np.array(camera.distortion))[:, 0].T
    rays = np.stack([x, y, np.ones_like(x)], 1)
    rotation = cv2.Rodrigues(turn)[0]
    along = (rotation[:, 2] @ position) / (rays @ rotation[:, 2])
    column, row = ((along[:, None] * rays - position) @ rotation)[:, :2].T / board.square_m
    inside = (column > -1) & (column < board.columns) & (row > -1) & (row < board.rows)
    paper = (column > -2) & (column < board.columns + 1) & (row > -2) & (row < board.rows + 1)
    black = (np.floor(column) + np.floor(row)) % 2 == 0
    shade = np.where(inside & black, 20.0, np.where(paper, 230.0, 120.0))
    grey = shade.reshape(height, FINER, width, FINER).mean((1, 3)).round().astype(np.uint8)
    return np.repeat(grey[..., None], 3, 2)


def album(camera: Pinhole, board: Board, seed: int, count: int) -> list[np.ndarray]:
    """The board all over the image, tilted."""
    rng, middle = np.random.default_rng(seed), board.points.mean(0)
    images = []
    for i in range(count):
        turn = rng.uniform(-0.5, 0.5, 3)
        distance = board.square_m * board.columns * rng.uniform(1.6, 2.4)
        aim = np.array(
            [0.22 * (i % 3 - 1) * camera.width_px / camera.fx_px, 0.18 * (i // 3 % 3 - 1) * camera.height_px / camera.fy_px, 1.0]
        )
        images.append(photograph(camera, board, turn, distance * aim - cv2.Rodrigues(turn)[0] @ middle))
    return images
