"""Facts about the 50 Meta-World tasks that the simulator and the parent share."""

from __future__ import annotations

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
