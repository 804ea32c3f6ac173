"""Pictures of the humanoid for people: it has no camera of its own."""

from __future__ import annotations

import numpy as np

from sim.camera import Camera
from sim.humanoid.body import Body
from sim.humanoid.model import MARKERS
from sim.render import RenderContext, Renderer

PX = 192
VIEW = Camera((0.0, 0.0, 0.72), 2.3, 205.0, -12.0, 42.0)
"""From in front of the robot, to its left."""


class Painter:
    """Draws a body with the spots that its hands are to go to."""

    def __init__(self, body: Body) -> None:
        self._context = RenderContext(PX)
        self._body, self._renderer = body, Renderer(body.model, VIEW, PX, MARKERS)
        self._sites = [body.model.site(name).id for name in MARKERS]

    def draw(self, goal: np.ndarray) -> np.ndarray:
        """`(PX, PX, 3)` uint8; `goal` `(2, 3)` in the pelvis' frame [m]. Poses of markers are set, which no step reads."""
        self._body.data.site_xpos[self._sites] = self._body.to_world(goal)
        return self._renderer.render(self._body.data)

    def close(self) -> None:
        """Free rendering memory."""
        self._context.close()
