"""What randomisation asks of a worker's physics, beyond `sim.episodes.World`, and which of it a configuration needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np

from sim.randomize import Variation
from sim.scene import Scene
from sim.settings import ServoTarget


@runtime_checkable
class VariedWorld(Protocol):
    """Physics whose properties, timing and looks can be varied. In every call the environments are of one scene."""

    def vary(self, env_ids: Sequence[int], scene: Scene, variations: Sequence[Variation]) -> None:
        """Give environments the physical properties of their episodes, before they start or are loaded."""
        ...

    def step_late(self, env_ids: Sequence[int], targets: Sequence[Sequence[tuple[int, ServoTarget]]]) -> list[str]:
        """As `World.step`, each environment's servos following targets one after another: (physics steps, target)."""
        ...

    def varied_images(self, env_ids: Sequence[int], saved: Sequence[Any], variations: Sequence[Variation]) -> np.ndarray:
        """As `World.images`, of states that were saved earlier, with varied camera, light and colours."""
        ...


@dataclass(frozen=True)
class Varies:
    """What a configuration touches, so that the rest costs nothing."""

    anything: bool
    physics: bool
    commands_late: bool
    views_late: bool
    """Images or states are late or lost."""
    drawing: bool
    """Images are not those of `World.images`."""

    @classmethod
    def of(cls, terms: frozenset[str]) -> Self:
        """From the names of the terms that are on."""

        def on(*prefixes: str) -> bool:
            return any(name.startswith(prefixes) for name in terms)

        return cls(
            anything=bool(terms),
            physics=on("physics."),
            commands_late=on("timing.action"),
            views_late=on("timing.image", "timing.state"),
            drawing=on("camera.", "light.", "colour.", "timing.image"),
        )
