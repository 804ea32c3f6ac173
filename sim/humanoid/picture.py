"""Pictures of the humanoid for people: it has no camera of its own."""

from __future__ import annotations

import numpy as np

from sim.camera import Camera
from sim.humanoid.body import Body
from sim.humanoid.model import MARKERS, compiled
from sim.render import RenderContext, Renderer

PX = 192
VIEW = Camera((0.0, 0.0, 0.72), 2.3, 205.0, -12.0, 42.0)
"""From in front of the robot, to its left."""


class Painter:
    """Draws a body with the spots that its hands are to go to."""

    def __init__(self) -> None:
        model = compiled()
        self._context = RenderContext(PX)
        self._renderer = Renderer(model, VIEW, PX, MARKERS)
        self._sites = [model.site(name).id for name in MARKERS]

    def draw(self, body: Body, goal: np.ndarray) -> np.ndarray:
        """`(PX, PX, 3)` uint8; `goal` `(2, 3)` in the pelvis' frame [m]. Poses of markers are set, which no step reads."""
        body.data.site_xpos[self._sites] = body.to_world(goal)
        return self._renderer.render(body.data)

    def close(self) -> None:
        """Free rendering memory."""
        self._context.close()
