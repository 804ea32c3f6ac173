"""The privileged state of a tabletop task as numbers: what teachers and critics see, and no policy.

B environments · S numbers
"""

from __future__ import annotations

from dataclasses import fields

import torch

from sim.robots import ROBOTS
from sim.state import Goal, SceneState
from sim.tasks import TASKS
from sim.tasks.task import Task


def privileged(task: Task, state: SceneState, goal: Goal) -> torch.Tensor:
    """Everything but the Jacobian, the goal, and the task's points as seen from the tool, `(B, S)`.

    A network that had to pick a block by its number would first have to learn to multiply.
    """
    parts = [
        getattr(state, field.name).flatten(1) if getattr(state, field.name).ndim > 1 else getattr(state, field.name)[:, None]
        for field in fields(state)
        if field.name != "jacobian"
    ]
    points = [point(state, goal) - state.tcp_pos for point in task.points]
    return torch.cat([*parts, *(value[:, None].to(state.tcp_pos) for value in goal.values()), *points], 1)


def privileged_sizes(robot: str) -> dict[str, int]:
    """S by task."""
    joints = len(ROBOTS[robot].joints)
    return {
        name: 2 * joints + 8 + 10 * len(task.scene.bodies) + 4 * len(task.scene.fixtures) + len(task.draw(0).goal) + 3 * len(task.points)
        for name, task in TASKS.items()
    }
