"""Facts about the 50 Meta-World tasks that the simulator and the parent share, and the cameras at their table."""

from __future__ import annotations

from sim.camera import Camera
from sim.metaworld.instructions import INSTRUCTIONS

TASKS: tuple[str, ...] = tuple(sorted(INSTRUCTIONS))
"""All task names, without the library's version suffix."""

_MARKED = (
    "reach reach-wall push push-wall push-back pick-place pick-place-wall pick-out-of-hole hand-insert soccer stick-push stick-pull "
    "sweep-into coffee-pull"
)

VISIBLE_SITES: dict[str, tuple[str, ...]] = {task: ("goal", "mug_goal") for task in _MARKED.split()}
"""Goal markers that are drawn: where nothing but the marker shows the goal. Elsewhere the fixture is the goal and all
markers are hidden, so that tasks that share a scene (faucet-open, faucet-close) look the same."""

CAMERAS: dict[str, Camera] = {
    "corner2": Camera((0.0, 0.675, 0.185), 1.6, 138.0, -38.0, 27.0),
    "behind": Camera((0.01, 0.67, 0.18), 1.6, 90.0, -45.0, 24.0),
    "side": Camera((0.015, 0.73, 0.13), 1.6, 180.0, -40.0, 26.0),
}
"""Camera presets, all upright; x points right, y away from the robot, z up. Framed so that hand and objects of the commonly used
tasks stay in view for all seeds, as large as possible."""
