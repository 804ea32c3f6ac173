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
    "corner2": Camera((0.0, 0.65, 0.12), 1.6, 145.0, -35.0, 30.0),
    "front": Camera((0.0, 0.65, 0.12), 1.6, 270.0, -35.0, 30.0),
    "side": Camera((0.0, 0.65, 0.12), 1.6, 180.0, -25.0, 30.0),
}
