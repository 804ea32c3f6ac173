"""The tabletop suite: language-conditioned manipulation, the same in every backend."""

from __future__ import annotations

from sim.tasks import drawer, lift, place, push, reach
from sim.tasks.task import Task

TASKS: dict[str, Task] = {task.name: task for task in (reach.TASK, push.TASK, lift.TASK, place.TASK, drawer.TASK)}
"""Every task by name."""
