"""A fixed camera, the same for every backend."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

SUPERSAMPLE = 2
"""Images are drawn so many times larger than they are shown, in every simulator: edges without steps tell where things are to a
fraction of a pixel."""


@dataclass(frozen=True)
class Camera:
    """A fixed camera that looks at a point of the world frame (z up)."""

    lookat_m: tuple[float, float, float]
    distance_m: float
    azimuth_deg: float
    """Direction of view about the vertical: 0 looks along +x, 90 along +y."""
    elevation_deg: float
    """Negative looks down."""
    fovy_deg: float

    def focal_px(self, image_px: int) -> float:
        """Focal length of an ideal pinhole with square images, whose axis goes through the centre."""
        return image_px / 2 / math.tan(math.radians(self.fovy_deg) / 2)

    @property
    def rotation(self) -> np.ndarray:
        """`(3, 3)` from the camera frame (x right, y down, z forward) to the world frame."""
        azimuth, elevation = math.radians(self.azimuth_deg), math.radians(self.elevation_deg)
        forward = np.array(
            [math.cos(elevation) * math.cos(azimuth), math.cos(elevation) * math.sin(azimuth), math.sin(elevation)],
        )
        right = np.array([math.sin(azimuth), -math.cos(azimuth), 0.0])
        return np.stack([right, np.cross(forward, right), forward], 1)

    @property
    def position_m(self) -> np.ndarray:
        """`(3,)` in the world frame."""
        return np.array(self.lookat_m) - self.distance_m * self.rotation[:, 2]


def shrink(image: np.ndarray) -> np.ndarray:
    """An image as it is shown `(H, W, 3)` uint8, from the one that was drawn."""
    height, width, _ = image.shape
    return cv2.resize(image, (width // SUPERSAMPLE, height // SUPERSAMPLE), interpolation=cv2.INTER_AREA)
