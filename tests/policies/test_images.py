"""The image function by hand: what stays as it is, pixel coordinates through crop and resize, lens distortion, refusals."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from policies.images import Crop, Pinhole, matching_crop, prepare_image, prepared_camera
from policies.interface import SpecError

CAMERA = Pinhole(width_px=64, height_px=48, fx_px=60.0, fy_px=58.0, cx_px=30.5, cy_px=24.0)


def image(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_an_image_that_is_right_stays_as_it_is() -> None:
    frame = image(48, 64)
    assert np.array_equal(prepare_image(frame, 48, 64, CAMERA), frame)


def test_shrinking_averages_areas() -> None:
    frame = np.array([[[0] * 3, [4] * 3], [[8] * 3, [100] * 3]], np.uint8)
    assert prepare_image(frame, 1, 1).tolist() == [[[28, 28, 28]]]


def test_cropping_keeps_whole_pixels() -> None:
    frame = image(48, 64)
    crop = Crop(left_px=10, top_px=4, width_px=20, height_px=30)
    assert np.array_equal(prepare_image(frame, 30, 20, CAMERA, crop), frame[4:34, 10:30])


def test_intrinsics_by_hand() -> None:
    crop = Crop(left_px=8, top_px=0, width_px=48, height_px=48)
    small = prepared_camera(CAMERA, 24, 24, crop)
    # Half the size: x = 30.5 lies (30.5 − 8 + 0.5) / 2 = 11.5 pixels from the crop's left edge, so 11.0 from its first centre.
    assert (small.fx_px, small.fy_px, small.cx_px, small.cy_px) == (30.0, 29.0, 11.0, 11.75)


def test_a_point_is_seen_where_the_prepared_camera_says() -> None:
    point = np.array([0.1, -0.05, 1.0])
    u, v = (CAMERA.matrix @ point)[:2]
    frame = np.zeros((48, 64, 3), np.uint8)
    x, y = np.meshgrid(np.arange(64), np.arange(48))
    frame[:] = np.round(255 * np.exp(-((x - u) ** 2 + (y - v) ** 2) / 18))[..., None]  # a blob there
    crop = Crop(left_px=6, top_px=2, width_px=50, height_px=40)
    small = prepare_image(frame, 20, 25, CAMERA, crop)[..., 0].astype(float)
    rows, columns = np.mgrid[:20, :25]
    seen = np.array([(small * columns).sum(), (small * rows).sum()]) / small.sum()
    assert seen == pytest.approx((prepared_camera(CAMERA, 20, 25, crop).matrix @ point)[:2], abs=0.05)


def test_distortion_is_taken_out() -> None:
    bent = CAMERA.model_copy(update={"distortion": (-0.3, 0.1, 0.0, 0.0)})
    point = np.array([[[0.35, 0.25, 1.0]]])
    u, v = cv2.projectPoints(point, np.zeros(3), np.zeros(3), bent.matrix, np.array(bent.distortion))[0][0, 0]
    straight = (CAMERA.matrix @ point[0, 0])[:2]
    assert np.hypot(*(straight - (u, v))) > 1  # far enough to tell
    x, y = np.meshgrid(np.arange(64), np.arange(48))
    frame = np.repeat(np.round(255 * np.exp(-((x - u) ** 2 + (y - v) ** 2) / 4))[..., None], 3, 2).astype(np.uint8)
    seen = prepare_image(frame, 48, 64, bent)[..., 0].astype(float)
    assert np.array([(seen * x).sum(), (seen * y).sum()]) / seen.sum() == pytest.approx(straight, abs=0.2)


def test_the_crop_that_shows_what_training_showed() -> None:
    real = Pinhole(width_px=640, height_px=480, fx_px=500.0, fy_px=500.0, cx_px=319.5, cy_px=239.5)
    trained = Pinhole(width_px=64, height_px=64, fx_px=80.0, fy_px=80.0, cx_px=31.5, cy_px=31.5)
    crop = matching_crop(real, trained)
    assert (crop.left_px, crop.top_px, crop.width_px, crop.height_px) == (120, 40, 400, 400)  # 64 · 500/80 = 400 pixels
    assert prepared_camera(real, 64, 64, crop) == trained
    with pytest.raises(SpecError, match="sees less than the policy was trained on"):
        matching_crop(real, trained.model_copy(update={"fx_px": 40.0, "fy_px": 40.0}))


def test_what_is_no_image_of_the_camera_is_refused() -> None:
    with pytest.raises(SpecError, match=r"must be \(H, W, 3\) uint8"):
        prepare_image(np.zeros((4, 4), np.uint8), 4, 4)
    with pytest.raises(SpecError, match="calibrated for"):
        prepare_image(image(64, 48), 48, 64, CAMERA)
    with pytest.raises(SpecError, match="beyond the image"):
        prepare_image(image(48, 64), 48, 48, CAMERA, Crop(left_px=20, top_px=0, width_px=48, height_px=48))
    with pytest.raises(ValidationError, match="coefficients, got 3"):
        Pinhole(width_px=4, height_px=4, fx_px=1, fy_px=1, cx_px=0, cy_px=0, distortion=(0.1, 0.1, 0.1))
