"""The tabletop suite: language-conditioned manipulation, the same in every backend."""

from __future__ import annotations

from sim.tasks import button, drawer, lever, lift, peg, place, push, reach, sort, stack
from sim.tasks.task import Task

TASKS: dict[str, Task] = {
    task.name: task
    for task in (reach.TASK, push.TASK, lift.TASK, place.TASK, drawer.TASK, stack.TASK, sort.TASK, button.TASK, lever.TASK, peg.TASK)
}
"""Every task by name."""
