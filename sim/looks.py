"""What a variation does to colours, camera, light and image: pure functions, the same for every backend."""

from __future__ import annotations

import colorsys
import math

import cv2
import numpy as np

from sim.camera import Camera
from sim.randomize import Variation, noise_stream

Rgb = tuple[float, float, float]
Vector = tuple[float, float, float]


def recoloured(colour: Rgb, hue_deg: float, saturation: float, value: float) -> Rgb:
    """A colour with its hue turned, and its saturation and brightness scaled up to what there is."""
    h, s, v = colorsys.rgb_to_hsv(*colour)
    return colorsys.hsv_to_rgb((h + hue_deg / 360) % 1.0, min(s * saturation, 1.0), min(v * value, 1.0))


def moved(camera: Camera, variation: Variation) -> Camera:
    """The camera after its offsets."""
    if not any((*variation.camera_position_m, *variation.camera_lookat_m, variation.fovy_deg)):
        return camera
    azimuth, elevation = math.radians(camera.azimuth_deg), math.radians(camera.elevation_deg)
    flat = math.cos(elevation)
    view = np.array([flat * math.cos(azimuth), flat * math.sin(azimuth), math.sin(elevation)])
    position = np.array(camera.lookat_m) - camera.distance_m * view + variation.camera_position_m
    lookat = np.array(camera.lookat_m) + variation.camera_lookat_m
    x, y, z = (lookat - position).tolist()
    distance = math.sqrt(x * x + y * y + z * z)
    return Camera(
        lookat_m=(float(lookat[0]), float(lookat[1]), float(lookat[2])),
        distance_m=distance,
        azimuth_deg=math.degrees(math.atan2(y, x)),
        elevation_deg=math.degrees(math.asin(z / distance)),
        fovy_deg=camera.fovy_deg + variation.fovy_deg,
    )


def tilted(direction: Vector, variation: Variation) -> Vector:
    """A direction of light, turned about the world's x axis and then about y."""
    about_x, about_y = (math.radians(angle) for angle in variation.light_tilt_deg)
    x, y, z = direction
    y, z = y * math.cos(about_x) - z * math.sin(about_x), y * math.sin(about_x) + z * math.cos(about_x)
    return x * math.cos(about_y) + z * math.sin(about_y), y, z * math.cos(about_y) - x * math.sin(about_y)


def photographed(image: np.ndarray, variation: Variation, step: int) -> np.ndarray:
    """An image `(H, W, 3)` uint8 as the varied camera takes it: contrast and brightness, blur, noise; nothing if none is on.

    Args:
        image: as rendered.
        variation: of the episode.
        step: control step after which it was taken; its noise is drawn from it.
    """
    v = variation
    if (v.contrast, v.brightness, v.blur_px, v.noise) == (1.0, 0.0, 0.0, 0.0):
        return image
    taken = (image.astype(np.float32) - 128) * v.contrast + 128 + v.brightness
    if v.blur_px > 0:
        taken = cv2.GaussianBlur(taken, (0, 0), v.blur_px)
    if v.noise > 0:
        taken += noise_stream(v.seed, step).normal(0.0, v.noise, image.shape)
    return np.rint(taken).clip(0, 255).astype(np.uint8)
