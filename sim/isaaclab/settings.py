"""What travels from the parent to an Isaac Lab worker. No simulator."""

from __future__ import annotations

from dataclasses import dataclass

from sim.settings import Settings


@dataclass(frozen=True)
class IsaacSettings:
    """One simulation: one scene, cloned."""

    episodes: Settings
    task: str
    """A task with the scene; all tasks with that scene can run."""
    env_ids: tuple[int, ...]
    """The environments, by their ids in the whole."""
    device: str
    graph: bool
    """On the CPU, replay a recorded physics step."""
