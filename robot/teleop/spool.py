"""Recorded demonstrations on disk, each as soon as it is over: what ends a session, or the machine, loses none of them.

`vla_rl.data.recorded` makes a LeRobotDataset of a spool. No pickles.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from policies.interface import UserError
from robot.teleop.recording import Recorded

SUFFIX = ".safetensors"
OBS, FACTS = "obs.", "recorded"
"""Prefix of observation entries, and the key of what is not an array."""


class SpoolError(UserError):
    """A folder holds demonstrations that do not belong together."""


class Spool(Sequence[Recorded]):
    """A folder of demonstrations with the features of one bundle, read one at a time."""

    def __init__(self, folder: Path, digest: str) -> None:
        """Made if it is not there; what it holds already stays. Raises `SpoolError` if that was recorded for another bundle."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self._digest = folder, digest
        for path in self._files:
            if (found := _facts(path)["bundle"]) != digest:
                raise SpoolError(
                    f"{path} was recorded with the features of another bundle ({found[:12]}…); move {folder} away, or record like it"
                )

    @overload
    def __getitem__(self, index: int) -> Recorded: ...
    @overload
    def __getitem__(self, index: slice) -> list[Recorded]: ...
    def __getitem__(self, index: int | slice) -> Recorded | list[Recorded]:
        files = self._files[index]
        return _read(files) if isinstance(files, Path) else [_read(path) for path in files]

    def __len__(self) -> int:
        return len(self._files)

    @property
    def _files(self) -> list[Path]:
        """In the order of recording."""
        return sorted(self.folder.glob(f"episode-*{SUFFIX}"))

    def add(self, episode: Recorded) -> Path:
        """Write one; it appears when it is complete and on disk."""
        number = 1 + max((int(path.stem.removeprefix("episode-")) for path in self._files), default=-1)
        path = self.folder / f"episode-{number:06d}{SUFFIX}"
        arrays = {f"{OBS}{name}": np.ascontiguousarray(value) for name, value in episode.obs.items()} | {"action": episode.action}
        facts = {"instruction": episode.instruction, "clipped": episode.clipped, "bundle": self._digest}
        partial = path.with_suffix(".partial")
        save_file(arrays, partial, {FACTS: json.dumps(facts)})
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.rename(path)
        return path


def _read(path: Path) -> Recorded:
    with safe_open(path, framework="numpy") as found:
        arrays = {name: found.get_tensor(name) for name in found.keys()}  # noqa: SIM118 (it is no mapping)
    obs = {name.removeprefix(OBS): value for name, value in arrays.items() if name.startswith(OBS)}
    facts = _facts(path)
    return Recorded(facts["instruction"], obs, arrays["action"], facts["clipped"])


def _facts(path: Path) -> dict[str, Any]:
    """What is not an array."""
    with safe_open(path, framework="numpy") as found:
        return json.loads(found.metadata()[FACTS])
