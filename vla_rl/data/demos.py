"""Demonstrations in memory: loading from a LeRobotDataset folder and sampling action chunks.

T frames · B batch · K chunk steps · A action dimensions
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from rich.progress import Progress

from policies.interface import PolicySpec, SpecError, UserError
from vla_rl.data.reader import EpisodeRow, Folder, check_features, decode_images, decode_video, floats, open_folder, read_rows


@dataclass(frozen=True)
class Demos:
    """All frames of the chosen episodes, episode after episode."""

    obs: dict[str, np.ndarray]
    """Entries of the policy spec, `(T, ...)`: images uint8, states float32, text numpy strings."""
    action: np.ndarray
    """`(T, A)` float32 in the spec's units."""
    episode: np.ndarray
    """`(T,)` int64, ascending from 0: episode of each frame."""
    tasks: tuple[str, ...]
    """Task name of each episode; the instruction where the data set records no task names."""

    def __len__(self) -> int:
        return len(self.action)

    @cached_property
    def last(self) -> np.ndarray:
        """`(T,)` int64: row of the last frame of each frame's episode."""
        return np.searchsorted(self.episode, self.episode, side="right") - 1

    def sample(self, indices: np.ndarray, chunk: int) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        """Observations at rows `indices` `(B,)` and the actions of the `chunk` steps from there.

        Returns:
            The observation batch; actions `(B, K, A)` float32, where the last action of the episode fills
            up a chunk that runs past it; mask `(B, K)` bool, False for those steps.
        """
        steps = np.asarray(indices)[:, None] + np.arange(chunk)
        last = self.last[indices][:, None]
        return {name: value[indices] for name, value in self.obs.items()}, self.action[np.minimum(steps, last)], steps <= last


def load_demos(path: Path, spec: PolicySpec, tasks: tuple[str, ...] | None = None, episodes_per_task: int | None = None) -> Demos:
    """Load the entries and actions of `spec` from a LeRobotDataset v3 folder.

    Args:
        path: dataset folder, written by `vla-rl collect` or any other LeRobot tool.
        spec: entries are features of the same name; the text entry is the frame's instruction.
        tasks: task names to use; all if None.
        episodes_per_task: use the first so many episodes of each task; all if None.

    Raises:
        FileNotFoundError: there is no such folder.
        SpecError: features, names, shapes or the control rate differ from `spec`.
        UserError: the folder is not a complete LeRobotDataset v3, a value is not finite, or a task has too few episodes.
    """
    folder = open_folder(path)
    check_features(folder, spec)
    episodes = _select(folder, tasks, episodes_per_task)
    total = sum(episode.length for episode in episodes)
    images = [entry for entry in spec.of_kind("image") if folder.info["features"][entry.name]["dtype"] == "image"]
    videos = [entry for entry in spec.of_kind("image") if entry not in images]
    widths = {entry.name: entry.shape[0] for entry in spec.of_kind("state")} | {"action": spec.action.dim, "timestamp": 1}
    data = {entry.name: np.empty((total, *entry.shape), np.uint8) for entry in spec.of_kind("image")}
    data |= {name: np.empty((total, width), np.float32) for name, width in widths.items()}
    task_index = np.empty(total, np.int64)

    with Progress(transient=True) as progress:
        bar = progress.add_task(f"Loading {path.name}", total=total)
        for position, rows in read_rows(folder, episodes, [*widths, "task_index", *(entry.name for entry in images)]):
            task_index[position] = rows.column("task_index").to_numpy()
            for name, width in widths.items():
                data[name][position] = floats(rows.column(name), width)
            for entry in images:
                for row, image in zip(position, decode_images(rows.column(entry.name), entry.shape, entry.name), strict=True):
                    data[entry.name][row] = image
            progress.advance(bar, len(position))
        for entry in videos:
            _load_video(folder, episodes, entry.name, data)

    episode = np.repeat(np.arange(len(episodes)), [row.length for row in episodes])
    data.pop("timestamp")
    _require_finite(folder, {name: data[name] for name in widths if name in data}, episodes, episode)
    action = data.pop("action")
    instruction = _instructions(folder, task_index)
    obs = {entry.name: instruction if entry.kind == "text" else data[entry.name] for entry in spec.entries}
    return Demos(obs, action, episode, tuple(row.task for row in episodes))


def _select(folder: Folder, tasks: tuple[str, ...] | None, episodes_per_task: int | None) -> list[EpisodeRow]:
    """The first `episodes_per_task` episodes of each task, in dataset order."""
    available = Counter(episode.task for episode in folder.episodes)
    chosen = tuple(available) if tasks is None else tasks
    for task in chosen:
        if available[task] == 0:
            raise UserError(f"dataset {folder.path} has no episodes of task '{task}'; it has {dict(available)}")
        if episodes_per_task is not None and available[task] < episodes_per_task:
            raise UserError(
                f"dataset {folder.path} has {available[task]} episodes of task '{task}', episodes_per_task asks for {episodes_per_task}"
            )
    taken: Counter[str] = Counter()
    selected = []
    for episode in folder.episodes:
        if episode.task in chosen and (episodes_per_task is None or taken[episode.task] < episodes_per_task):
            taken[episode.task] += 1
            selected.append(episode)
    if not selected:
        raise UserError(f"dataset {folder.path} has no episodes")
    return selected


def _load_video(folder: Folder, episodes: list[EpisodeRow], name: str, data: dict[str, np.ndarray]) -> None:
    """Decode the video feature `name` of each episode into `data[name]`."""
    first = 0
    for episode in episodes:
        rows = slice(first, first + episode.length)
        frames = decode_video(episode, name, data["timestamp"][rows, 0], folder.info["fps"])
        if frames.shape != data[name][rows].shape:
            raise SpecError(f"video of feature '{name}' has frames of shape {frames.shape[1:]}, the spec wants {data[name].shape[1:]}")
        data[name][rows] = frames
        first += episode.length


def _require_finite(folder: Folder, data: dict[str, np.ndarray], episodes: list[EpisodeRow], episode: np.ndarray) -> None:
    for name, value in data.items():
        bad = ~np.isfinite(value).all(axis=1)
        if bad.any():
            row = int(np.argmax(bad))
            raise UserError(
                f"dataset {folder.path} has {value[row].tolist()} in '{name}' of episode {episodes[episode[row]].index};"
                f" {int(bad.sum())} frames are not finite; remove these episodes"
            )


def _instructions(folder: Folder, task_index: np.ndarray) -> np.ndarray:
    """Instruction of each frame, `(T,)` numpy strings."""
    indices, inverse = np.unique(task_index, return_inverse=True)
    unknown = sorted(set(indices.tolist()) - set(folder.instructions))
    if unknown:
        raise UserError(f"dataset {folder.path} refers to tasks {unknown} that meta/tasks.parquet does not list; it is corrupt")
    return np.array([folder.instructions[index] for index in indices.tolist()])[inverse]
