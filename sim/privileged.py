"""The privileged state of a tabletop task as numbers: what teachers and critics see, and no policy.

B environments · S numbers
"""

from __future__ import annotations

from dataclasses import fields

import torch

from sim.robots import ROBOTS
from sim.state import Goal, SceneState
from sim.tasks import TASKS


def privileged(state: SceneState, goal: Goal) -> torch.Tensor:
    """Everything but the Jacobian, and the goal, as numbers `(B, S)`: what privileged teachers and critics see."""
    parts = [
        getattr(state, field.name).flatten(1) if getattr(state, field.name).ndim > 1 else getattr(state, field.name)[:, None]
        for field in fields(state)
        if field.name != "jacobian"
    ]
    return torch.cat([*parts, *(value[:, None].to(state.tcp_pos) for value in goal.values())], 1)


def privileged_sizes(robot: str) -> dict[str, int]:
    """S by task."""
    joints = len(ROBOTS[robot].joints)
    parts = {name: (len(task.scene.bodies), len(task.scene.fixtures), len(task.draw(0).goal)) for name, task in TASKS.items()}
    return {name: 2 * joints + 8 + 10 * bodies + 4 * fixtures + goal for name, (bodies, fixtures, goal) in parts.items()}
