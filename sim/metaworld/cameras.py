"""Camera presets of the Meta-World table, all upright; x points right, y away from the robot, z up."""

from __future__ import annotations

from sim.camera import Camera

CAMERAS: dict[str, Camera] = {
    "corner2": Camera((0.0, 0.675, 0.185), 1.6, 138.0, -38.0, 27.0),
    "behind": Camera((0.01, 0.67, 0.18), 1.6, 90.0, -45.0, 24.0),
    "side": Camera((0.015, 0.73, 0.13), 1.6, 180.0, -40.0, 26.0),
}
"""Framed so that hand and objects of the commonly used tasks stay in view for all seeds, as large as possible."""
