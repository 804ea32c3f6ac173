"""Camera presets of the Meta-World table, all upright."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Camera:
    """A fixed camera that looks at a point of the world frame (x right, y away from the robot, z up)."""

    lookat_m: tuple[float, float, float]
    distance_m: float
    azimuth_deg: float
    """Direction of view about the vertical: 0 looks along +x, 90 along +y."""
    elevation_deg: float
    """Negative looks down."""
    fovy_deg: float


CAMERAS: dict[str, Camera] = {
    "corner2": Camera((0.0, 0.675, 0.185), 1.6, 138.0, -38.0, 27.0),
    "behind": Camera((0.01, 0.67, 0.18), 1.6, 90.0, -45.0, 24.0),
    "side": Camera((0.015, 0.73, 0.13), 1.6, 180.0, -40.0, 26.0),
}
"""Framed so that hand and objects of the commonly used tasks stay in view for all seeds, as large as possible."""
