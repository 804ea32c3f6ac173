"""A fixed camera, the same for every backend."""

from __future__ import annotations

from dataclasses import dataclass


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
