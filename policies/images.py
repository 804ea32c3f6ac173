"""The one image function between a camera and a policy: undistort, crop, resize. NumPy and OpenCV only.

Pixel coordinates are OpenCV's: the centre of the first pixel is (0, 0), x points right, y down. A pinhole camera sees the
point (X, Y, Z) of its frame (x right, y down, z forward) at u = fx X/Z + cx, v = fy Y/Z + cy.
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from policies.interface import SpecError

Positive = Annotated[int, Field(gt=0)]
Focal = Annotated[float, Field(gt=0)]
DISTORTIONS = (0, 4, 5, 8, 12, 14)
"""Numbers of distortion coefficients that OpenCV knows; none is an ideal pinhole."""


class Pinhole(BaseModel):
    """Intrinsics and lens distortion of a camera."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    width_px: Positive
    height_px: Positive
    fx_px: Focal
    fy_px: Focal
    cx_px: float
    cy_px: float
    distortion: tuple[float, ...] = ()
    """k1, k2, p1, p2[, k3[, k4, k5, k6[, s1 … s4[, τx, τy]]]], OpenCV's order."""

    @model_validator(mode="after")
    def _known_model(self) -> Self:
        if len(self.distortion) not in DISTORTIONS:
            raise ValueError(f"distortion needs {', '.join(map(str, DISTORTIONS))} coefficients, got {len(self.distortion)}")
        return self

    @property
    def matrix(self) -> np.ndarray:
        """Camera matrix `(3, 3)` float64."""
        return np.array([[self.fx_px, 0.0, self.cx_px], [0.0, self.fy_px, self.cy_px], [0.0, 0.0, 1.0]])

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) [pixel]."""
        return self.height_px, self.width_px


class Crop(BaseModel):
    """A rectangle of whole pixels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    left_px: Annotated[int, Field(ge=0)]
    top_px: Annotated[int, Field(ge=0)]
    width_px: Positive
    height_px: Positive


def prepare_image(image: np.ndarray, height_px: int, width_px: int, camera: Pinhole | None = None, crop: Crop | None = None) -> np.ndarray:
    """Make a camera's image what the policy was trained on.

    Args:
        image: `(H, W, 3)` uint8.
        height_px: of the result.
        width_px: of the result.
        camera: the camera that took `image`; its lens distortion is taken out first, with the camera matrix kept.
        crop: what is kept of the undistorted image; all of it if `None`.

    Returns:
        `(height_px, width_px, 3)` uint8. An image that is right already comes back as it is, bit by bit.

    Raises:
        SpecError: not an image, not of the camera's size, or a crop beyond its edge.
    """
    import cv2  # robots' profiles name cameras, and need no OpenCV for that

    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise SpecError(f"an image must be (H, W, 3) uint8, got {image.shape} {image.dtype}")
    if camera is not None:
        if image.shape[:2] != camera.size:
            raise SpecError(f"the image is {image.shape[:2]}, its camera is calibrated for {camera.size} (height, width)")
        if any(camera.distortion):
            maps = _straightening(camera.size, tuple(camera.matrix.reshape(-1).tolist()), camera.distortion)
            image = cv2.remap(image, *maps, cv2.INTER_LINEAR)
    if crop is not None:
        bottom, right = crop.top_px + crop.height_px, crop.left_px + crop.width_px
        if bottom > image.shape[0] or right > image.shape[1]:
            raise SpecError(f"the crop ends at (row {bottom}, column {right}), beyond the image of {image.shape[:2]}")
        image = image[crop.top_px : bottom, crop.left_px : right]
    if image.shape[:2] != (height_px, width_px):
        smaller = height_px <= image.shape[0] and width_px <= image.shape[1]
        image = cv2.resize(image, (width_px, height_px), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
    return np.ascontiguousarray(image)


@cache
def _straightening(size: tuple[int, int], matrix: tuple[float, ...], distortion: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel of the straightened image is taken from, as OpenCV wants it."""
    import cv2

    focal = np.array(matrix).reshape(3, 3)
    return cv2.initUndistortRectifyMap(focal, np.array(distortion), np.eye(3), focal, size[::-1], cv2.CV_16SC2)


def prepared_camera(camera: Pinhole, height_px: int, width_px: int, crop: Crop | None = None) -> Pinhole:
    """The ideal camera that takes images as `prepare_image` returns them."""
    left, top, width, height = (crop.left_px, crop.top_px, crop.width_px, crop.height_px) if crop else (0, 0, *camera.size[::-1])
    x, y = width_px / width, height_px / height
    return Pinhole(
        width_px=width_px,
        height_px=height_px,
        fx_px=camera.fx_px * x,
        fy_px=camera.fy_px * y,
        cx_px=(camera.cx_px - left + 0.5) * x - 0.5,  # pixel centres are whole numbers, edges lie half a pixel outside
        cy_px=(camera.cy_px - top + 0.5) * y - 0.5,
    )


def matching_crop(camera: Pinhole, trained: Pinhole) -> Crop:
    """The part of `camera`'s undistorted image that shows what `trained` saw, to the nearest pixel.

    Raises:
        SpecError: the camera's view is too narrow, or its lens leaves parts of the undistorted image empty that would be needed.
    """
    x, y = camera.fx_px / trained.fx_px, camera.fy_px / trained.fy_px
    left, top = camera.cx_px + 0.5 - (trained.cx_px + 0.5) * x, camera.cy_px + 0.5 - (trained.cy_px + 0.5) * y
    right, bottom = left + trained.width_px * x, top + trained.height_px * y
    edges = [round(edge) for edge in (left, top, right, bottom)]
    if edges[0] < 0 or edges[1] < 0 or edges[2] > camera.width_px or edges[3] > camera.height_px:
        raise SpecError(
            f"the camera sees less than the policy was trained on: columns {edges[0]} to {edges[2]} and rows {edges[1]} to {edges[3]} "
            f"are needed, it has {camera.width_px} × {camera.height_px}; use a wider lens or train with a narrower view"
        )
    crop = Crop(left_px=edges[0], top_px=edges[1], width_px=edges[2] - edges[0], height_px=edges[3] - edges[1])
    if any(camera.distortion) and (empty := _beyond_the_lens(camera, crop)) > 1:
        raise SpecError(
            f"the camera sees less than the policy was trained on: once its image is straightened, up to {empty:.0f} pixels at the edge of "
            "what is needed are empty; use a wider lens or train with a narrower view"
        )
    return crop


def _beyond_the_lens(camera: Pinhole, crop: Crop) -> float:
    """How far outside of the camera's own image the border of a crop of the straightened one lies, at most [pixel]."""
    import cv2

    right, bottom = crop.left_px + crop.width_px - 1, crop.top_px + crop.height_px - 1
    x, y = np.arange(crop.left_px, right + 1), np.arange(crop.top_px, bottom + 1)
    u = np.concatenate([x, x, np.full_like(y, crop.left_px), np.full_like(y, right)])
    v = np.concatenate([np.full_like(x, crop.top_px), np.full_like(x, bottom), y, y])
    rays = np.stack([(u - camera.cx_px) / camera.fx_px, (v - camera.cy_px) / camera.fy_px, np.ones(len(u))], 1)
    seen = cv2.projectPoints(rays, np.zeros(3), np.zeros(3), camera.matrix, np.array(camera.distortion))[0][:, 0]
    return float(np.max([-seen, seen - (camera.width_px - 1, camera.height_px - 1)]))
