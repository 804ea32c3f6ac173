"""A Meta-World task as the episodes of a worker take it: told in words and seen by a camera."""

from __future__ import annotations

import numpy as np

from sim.metaworld.env import Settings, entry_names
from sim.metaworld.instructions import draw
from sim.metaworld.scene import Scene
from sim.metaworld.tasks import CAMERAS, VISIBLE_SITES
from sim.render import RenderContext, Renderer
from sim.workers.episodes import Episodes


class ShownScene(Scene):
    """A scene with a horizon, an instruction and an image; the worker's renderers share one OpenGL context."""

    def __init__(self, task: str, settings: Settings) -> None:
        super().__init__(task)
        self.horizon, self._settings = settings.horizon, settings
        self._renderer: Renderer | None = None

    def instruction(self, seed: int) -> str:
        """The phrasing of an episode's seed."""
        return draw(self.task, seed, self._settings.paraphrases)

    def images(self) -> dict[str, np.ndarray]:
        """The present state."""
        if self._renderer is None:
            self._renderer = Renderer(self.model, CAMERAS[self._settings.camera], self._settings.image_px, VISIBLE_SITES.get(self.task, ()))
        return {"image": self._renderer.render(self.data)}


def episodes(settings: Settings) -> Episodes:
    """The episodes of one worker."""
    context = RenderContext(settings.image_px)
    return Episodes(
        lambda task: ShownScene(task, settings),
        entry_names(settings.camera),
        "Meta-World starts from its own initial states only; set sim.resets to default",
        context.close,
    )
