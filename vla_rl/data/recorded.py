"""From demonstrations that a robot recorded to a LeRobotDataset with the features of the policy they are for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from policies.bundle import Bundle
from sim.vec_env import Demonstration, EnvSpec
from vla_rl.data.writer import write_episodes


class Recorded(Protocol):
    """One demonstration (`robot.teleop.recording`)."""

    @property
    def instruction(self) -> str:
        """What the robot was to do."""
        ...

    @property
    def obs(self) -> Mapping[str, np.ndarray]:
        """Image and state entries `(T, ...)`."""
        ...

    @property
    def action(self) -> np.ndarray:
        """`(T, A)` float32."""
        ...

    @property
    def success(self) -> bool:
        """Whether the operator called it one."""
        ...

    @property
    def clipped(self) -> int:
        """Frames whose commands were faster than actions can say."""
        ...


def write_recorded(out: Path, bundle: Bundle, task: str, episodes: Sequence[Recorded], about: Mapping[str, object]) -> Path:
    """Write a data set that any run with the bundle's features can be trained on; `out` appears when it is complete.

    Args:
        out: folder to create.
        bundle: whose entries, actions and control rate the episodes have.
        task: name under which training finds them (`sim.tasks`).
        episodes: read one at a time.
        about: what made them, kept in `meta/vla_rl.json`.

    Raises:
        FileExistsError: `out` exists.
        UserError: there are no episodes, or one does not fit the bundle.
    """
    spec = bundle.spec
    env = EnvSpec(embodiment=spec.embodiment, entries=spec.entries, action=spec.action, control_hz=spec.control_hz)
    facts = {**about, "success": sum(e.success for e in episodes), "clipped_frames": sum(e.clipped for e in episodes)}
    frames = sum(len(episode.action) for episode in episodes)
    return write_episodes(out, env, (_demonstration(task, i, episode) for i, episode in enumerate(episodes)), facts, frames)


def _demonstration(task: str, number: int, episode: Recorded) -> Demonstration:
    success = np.zeros(len(episode.action), bool)
    success[-1] = episode.success
    return Demonstration(task, number, episode.instruction, dict(episode.obs), episode.action, episode.action, success)
