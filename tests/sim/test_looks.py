"""Colours stay what they are called; camera, light and image effects by hand-computed numbers."""

from __future__ import annotations

import colorsys
from dataclasses import replace

import numpy as np
import pytest

from sim.camera import Camera
from sim.looks import moved, photographed, recoloured, tilted
from sim.randomize import ColourTerms, Randomize, Randomizer, Variation
from sim.robots import ARM7
from sim.tabletop import CAMERAS
from sim.tasks import TASKS

NEUTRAL = Randomizer(Randomize(), 20.0).draw(0, TASKS["lift"].scene, ARM7)


def hue_distance(a: tuple[float, float, float], b: tuple[float, float, float]) -> float:
    turn = (colorsys.rgb_to_hsv(*a)[0] - colorsys.rgb_to_hsv(*b)[0] + 0.5) % 1.0 - 0.5
    return 360 * abs(turn)


def test_a_colour_turns_and_scales() -> None:
    assert recoloured((1.0, 0.0, 0.0), 120.0, 1.0, 1.0) == pytest.approx((0.0, 1.0, 0.0))
    assert recoloured((0.8, 0.4, 0.4), 0.0, 0.5, 0.5) == pytest.approx((0.4, 0.3, 0.3))
    assert recoloured((0.5, 0.5, 0.5), 8.0, 1.4, 1.0) == pytest.approx((0.5, 0.5, 0.5)), "grey stays grey"


def test_the_farthest_allowed_colour_is_nearest_to_its_own_name() -> None:
    """All corners of what a configuration may ask for, for the vivid colours that stand on tables together."""
    largest = ColourTerms.model_fields["hue_deg"].metadata[1].le
    for task in TASKS.values():
        scene = task.scene
        shapes = [shape for body in scene.bodies for shape in body.shapes] + list(scene.mats)
        vivid = {shape.colour for shape in shapes if colorsys.rgb_to_hsv(*shape.colour)[1] > 0.5}
        assert len(vivid) >= 2
        for own in vivid:
            for hue in (-largest, largest):
                for saturation in (0.6, 1.4):
                    for value in (0.6, 1.4):
                        seen = recoloured(own, hue, saturation, value)
                        assert min(vivid, key=lambda name: hue_distance(seen, name)) == own


def test_a_camera_that_moves_keeps_looking_at_its_point() -> None:
    camera = Camera((0.5, 0.0, 0.0), 1.0, 180.0, 0.0, 40.0)  # stands at (1.5, 0, 0), looks along -x
    assert moved(camera, NEUTRAL) is camera
    seen = moved(camera, replace(NEUTRAL, camera_position_m=(0.0, 0.0, 1.0), fovy_deg=-2.0))  # now at (1.5, 0, 1)
    assert seen.distance_m == pytest.approx(np.sqrt(2)) and seen.elevation_deg == pytest.approx(-45)
    assert abs(seen.azimuth_deg) == pytest.approx(180) and seen.fovy_deg == 38.0 and seen.lookat_m == (0.5, 0.0, 0.0)
    seen = moved(camera, replace(NEUTRAL, camera_lookat_m=(0.0, 1.0, 0.0)))
    assert seen.azimuth_deg == pytest.approx(135) and seen.elevation_deg == pytest.approx(0) and seen.lookat_m == (0.5, 1.0, 0.0)


@pytest.mark.parametrize("name", CAMERAS)
def test_a_tiny_move_is_a_tiny_change(name: str) -> None:
    camera = CAMERAS[name]
    seen = moved(camera, replace(NEUTRAL, camera_position_m=(1e-9, 0.0, 0.0)))
    for mine, theirs in (
        (seen.distance_m, camera.distance_m),
        (seen.azimuth_deg, camera.azimuth_deg),
        (seen.elevation_deg, camera.elevation_deg),
    ):
        assert (mine - theirs + 180) % 360 - 180 == pytest.approx(0, abs=1e-5)


def test_light_turns_about_x_then_y() -> None:
    assert tilted((0.0, 0.0, -1.0), NEUTRAL) == pytest.approx((0, 0, -1))
    assert tilted((0.0, 0.0, -1.0), replace(NEUTRAL, light_tilt_deg=(90.0, 0.0))) == pytest.approx((0, 1, 0))
    assert tilted((0.0, 0.0, -1.0), replace(NEUTRAL, light_tilt_deg=(0.0, 90.0))) == pytest.approx((-1, 0, 0))


def photo(level: int, **change: float) -> np.ndarray:
    return photographed(np.full((8, 8, 3), level, np.uint8), replace(NEUTRAL, **change), 4)


def test_contrast_brightness_and_limits() -> None:
    assert (photo(138, contrast=1.5) == 143).all() and (photo(118, contrast=1.5) == 113).all()
    assert (photo(100, brightness=-20.0) == 80).all() and (photo(250, brightness=20.0) == 255).all()
    image = np.zeros((8, 8, 3), np.uint8)
    assert photographed(image, NEUTRAL, 0) is image


def test_blur_spreads_and_keeps_the_sum() -> None:
    image = np.zeros((15, 15, 3), np.uint8)
    image[7, 7] = 250
    seen = photographed(image, replace(NEUTRAL, blur_px=1.0), 0).astype(int)
    assert seen[7, 7, 0] == 40  # 250 / (2π σ²) = 39.8
    assert abs(seen[..., 0].sum() - 250) < 12 and image[7, 7, 0] == 250


def test_noise_is_of_its_strength_and_of_seed_and_step() -> None:
    grey = np.full((64, 64, 3), 128, np.uint8)
    noisy: Variation = replace(NEUTRAL, noise=5.0)
    seen = photographed(grey, noisy, 3)
    assert seen.std() == pytest.approx(5.0, abs=0.2) and seen.mean() == pytest.approx(128, abs=0.2)
    np.testing.assert_array_equal(seen, photographed(grey, noisy, 3))
    assert (seen != photographed(grey, noisy, 4)).any() and (seen != photographed(grey, replace(noisy, seed=1), 3)).any()
