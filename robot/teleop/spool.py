"""Recorded demonstrations on disk, each as soon as it is over: what ends a session, or the machine, loses none of them.

`vla_rl.data.recorded` makes a LeRobotDataset of a spool. No pickles.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from robot.teleop.recording import Recorded

SUFFIX = ".safetensors"
OBS, FACTS = "obs.", "recorded"
"""Prefix of observation entries, and the key of what is not an array."""


class Spool:
    """A folder of demonstrations."""

    def __init__(self, folder: Path) -> None:
        """Made if it is not there; what it holds already stays, and is counted."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder

    def __len__(self) -> int:
        return len(self.files)

    @property
    def files(self) -> list[Path]:
        """In the order of recording."""
        return sorted(self.folder.glob(f"episode-*{SUFFIX}"))

    def read(self) -> list[Recorded]:
        """All of them."""
        return [_read(path) for path in self.files]

    def add(self, episode: Recorded) -> Path:
        """Write one; it appears when it is complete."""
        number = 1 + max((int(path.stem.removeprefix("episode-")) for path in self.files), default=-1)
        path = self.folder / f"episode-{number:06d}{SUFFIX}"
        arrays = {f"{OBS}{name}": np.ascontiguousarray(value) for name, value in episode.obs.items()} | {"action": episode.action}
        facts = {"instruction": episode.instruction, "success": episode.success, "clipped": episode.clipped}
        partial = path.with_suffix(".partial")
        save_file(arrays, partial, {FACTS: json.dumps(facts)})
        partial.rename(path)
        return path


def _read(path: Path) -> Recorded:
    """One demonstration of a spool."""
    with safe_open(path, framework="numpy") as found:
        facts = json.loads(found.metadata()[FACTS])
        arrays = {name: found.get_tensor(name) for name in found.keys()}  # noqa: SIM118 (it is no mapping)
    obs = {name.removeprefix(OBS): value for name, value in arrays.items() if name.startswith(OBS)}
    return Recorded(obs=obs, action=arrays["action"], **facts)
