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
    def clipped(self) -> int:
        """Frames whose commands were faster than actions can say."""
        ...


def write_recorded(out: Path, bundle: Bundle, task: str, episodes: Sequence[Recorded], about: Mapping[str, object]) -> Path:
    """Write a data set of successes that any run with the bundle's features can be trained on; `out` appears when it is complete.

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
    lengths, clipped = zip(*((len(episode.action), episode.clipped) for episode in episodes), strict=True) if len(episodes) else ((), ())
    facts = {**about, "clipped_frames": sum(clipped)}
    return write_episodes(out, env, (_demonstration(task, i, episode) for i, episode in enumerate(episodes)), facts, sum(lengths))


def _demonstration(task: str, number: int, episode: Recorded) -> Demonstration:
    success = np.arange(len(episode.action)) == len(episode.action) - 1
    return Demonstration(task, number, episode.instruction, dict(episode.obs), episode.action, episode.action, success)
