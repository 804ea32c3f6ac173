"""Writing episodes as a LeRobotDataset v3: metadata through LeRobot, frames straight to parquet.

LeRobot's own `add_frame` and `save_episode` write every image to a file, read it back for statistics and once
more to embed it (about 7 ms per 64 px frame); encoding in memory takes 0.3 ms and gives the same files.
Per-episode facts that LeRobot has no place for are extra columns of the episodes table (`vla_rl/...`), which
LeRobot loads and can filter on; what made the data set is in `meta/vla_rl.json`.
"""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from policies.interface import SpecError, UserError
from vla_rl.data.reader import TASK_COLUMN

if TYPE_CHECKING:
    from sim.vec_env import Demonstration, EnvSpec

ABOUT_FILE = Path("meta/vla_rl.json")
STATS_IMAGES = 16
"""Images per episode that enter the dataset's pixel statistics."""
PNG_COMPRESSION = [cv2.IMWRITE_PNG_COMPRESSION, 1]


def write_episodes(out: Path, spec: EnvSpec, episodes: Iterable[Demonstration], about: dict[str, Any], max_frames: int) -> Path:
    """Write episodes as they come to a new dataset folder; `out` appears only when it is complete.

    Args:
        out: folder to create.
        spec: entries, actions and control rate of the episodes.
        episodes: consumed one at a time; the frames of one episode are in memory.
        about: what made the data set, kept in `meta/vla_rl.json`; read after the last episode, so it may hold counts.
        max_frames: upper bound on the number of frames, for the check of free disk space.

    Raises:
        FileExistsError: `out` exists.
        OSError: the disk is, or would become, full.
        SpecError: an episode does not fit `spec`.
        UserError: there are no episodes.
    """
    if out.exists():
        raise FileExistsError(f"{out} already exists; choose another folder or delete it")
    out.parent.mkdir(parents=True, exist_ok=True)
    require_space(out.parent, spec, max_frames)
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    source = iter(episodes)
    first = next(source, None)  # before the writer imports LeRobot, so that simulation is under way meanwhile
    if first is None:
        raise UserError(f"no episodes to write to {out}")
    try:
        with EpisodeWriter(partial, spec) as writer:
            for episode in chain([first], source):
                writer.add(episode)
        (partial / ABOUT_FILE).write_text(json.dumps(about, indent=2) + "\n")
        partial.rename(out)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise OSError(errno.ENOSPC, f"the disk is full: {out} was not written; free some space and collect again") from error
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return out


def require_space(folder: Path, spec: EnvSpec, frames: int) -> None:
    """Raise `OSError` unless `folder` has room for `frames` frames, at half the size of the raw pixels."""
    pixels = sum(int(np.prod(entry.shape)) for entry in spec.entries if entry.kind == "image")
    needed, free = frames * (pixels // 2 + 200), shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            errno.ENOSPC,
            f"not enough disk space in {folder}: up to {needed / 1e6:.3f} MB are needed for {frames} frames, {free / 1e6:.3f} MB are free;"
            " free some space or collect fewer episodes",
        )


class EpisodeWriter:
    """Appends episodes to a new LeRobotDataset folder; complete after leaving the `with` block."""

    def __init__(self, root: Path, spec: EnvSpec) -> None:
        from lerobot.datasets import LeRobotDatasetMetadata
        from lerobot.datasets.feature_utils import get_hf_features_from_features

        if not float(spec.control_hz).is_integer():
            raise SpecError(f"LeRobot data sets have a whole number of frames per second, the control rate is {spec.control_hz} Hz")
        self.spec = spec
        self.count = 0
        """Episodes written."""
        self._meta = LeRobotDatasetMetadata.create(
            f"local/{root.name.removesuffix('.partial')}", int(spec.control_hz), _features(spec), spec.embodiment, root, use_videos=False
        )
        self._schema = get_hf_features_from_features(self._meta.features).arrow_schema
        self._file = (0, 0)
        self._bytes = 0
        self._frames = 0
        self._parquet: pq.ParquetWriter | None = None

    def __enter__(self) -> EpisodeWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close_file()
        self._meta.finalize()

    def add(self, episode: Demonstration) -> None:
        """Append one episode. Raises `SpecError` if it does not fit the spec or holds values that are not finite."""
        arrays = self._arrays(episode)
        length = len(arrays["action"])
        self._meta.save_episode_tasks([episode.instruction])
        index = {
            "timestamp": np.arange(length, dtype=np.float32) / np.float32(self._meta.fps),
            "frame_index": np.arange(length),
            "episode_index": np.full(length, self.count),
            "index": np.arange(self._frames, self._frames + length),
            "task_index": np.full(length, self._meta.get_task_index(episode.instruction)),
        }
        table = pa.table([_column(arrays | index, field) for field in self._schema], schema=self._schema)
        chunk_index, file_index = self._write(table)
        facts = {
            "data/chunk_index": chunk_index,
            "data/file_index": file_index,
            TASK_COLUMN: episode.task,
            "vla_rl/seed": episode.seed,
            "vla_rl/success": episode.succeeded,
            "vla_rl/noisy": not np.array_equal(episode.action, episode.executed),
        }
        self._meta.save_episode(self.count, length, [episode.instruction], _statistics(arrays | index), facts)
        self._frames += length
        self.count += 1

    def _arrays(self, episode: Demonstration) -> dict[str, np.ndarray]:
        """The episode's entries and actions, checked against the spec."""
        action = np.asarray(episode.action, np.float32)
        shapes = {entry.name: entry.shape for entry in self.spec.entries if entry.kind != "text"}
        images = {entry.name for entry in self.spec.entries if entry.kind == "image"}
        arrays = {name: episode.obs[name] for name in shapes} | {"action": action}
        for name, shape in (shapes | {"action": (self.spec.action.dim,)}).items():
            value, wanted = arrays[name], (len(action), *shape)
            dtype = "uint8" if name in images else "float32"
            if value.shape != wanted or value.dtype != dtype or len(action) == 0:
                raise SpecError(f"'{name}' of an episode is {value.dtype} {value.shape}, the spec wants {dtype} {wanted}")
            if name not in images and not np.isfinite(value).all():
                raise SpecError(f"'{name}' of an episode of task '{episode.task}', seed {episode.seed}, is not finite")
        return arrays

    def _write(self, table: pa.Table) -> tuple[int, int]:
        """Append a row group, in a new file where the current one is full. Returns chunk and file index."""
        from lerobot.datasets.utils import update_chunk_file_indices

        if self._bytes > self._meta.data_files_size_in_mb * 1_000_000:
            self._close_file()
            self._file = update_chunk_file_indices(*self._file, self._meta.chunks_size)
        if self._parquet is None:
            path = self._meta.root / self._meta.data_path.format(chunk_index=self._file[0], file_index=self._file[1])
            path.parent.mkdir(parents=True, exist_ok=True)
            self._parquet = pq.ParquetWriter(path, self._schema, compression="snappy")
            self._bytes = 0
        self._parquet.write_table(table)
        self._bytes += table.nbytes
        return self._file

    def _close_file(self) -> None:
        if self._parquet is not None:
            self._parquet.close()
            self._parquet = None


def _features(spec: EnvSpec) -> dict[str, dict[str, Any]]:
    """LeRobot's feature declarations of a spec; the text entry is LeRobot's own `task`."""
    features: dict[str, dict[str, Any]] = {}
    for entry in spec.entries:
        if entry.kind == "image":
            features[entry.name] = {"dtype": "image", "shape": entry.shape, "names": ["height", "width", "channels"]}
        elif entry.kind == "state":
            features[entry.name] = {"dtype": "float32", "shape": entry.shape, "names": list(entry.names)}
        elif entry.kind != "text":
            raise SpecError(f"entry '{entry.name}' is of kind {entry.kind}; data sets hold image, state and text entries")
    return features | {"action": {"dtype": "float32", "shape": (spec.action.dim,), "names": list(spec.action.names)}}


def _column(arrays: dict[str, np.ndarray], field: pa.Field) -> pa.Array:
    """One feature as an arrow array of the field's type; images as embedded PNG files."""
    value = arrays[field.name]
    if value.dtype == np.uint8:
        encoded = [cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), PNG_COMPRESSION)[1].tobytes() for image in value]
        return pa.StructArray.from_arrays([pa.array(encoded, pa.binary()), pa.nulls(len(encoded), pa.string())], fields=list(field.type))
    if pa.types.is_nested(field.type):
        return pa.FixedSizeListArray.from_arrays(pa.array(value.ravel()), value.shape[1]).cast(field.type)
    return pa.array(value.reshape(len(value)), field.type)


def _statistics(arrays: dict[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """LeRobot's statistics of one episode; pixels in [0, 1] from evenly spaced images."""
    from lerobot.datasets.compute_stats import get_feature_stats

    statistics = {}
    for name, value in arrays.items():
        if value.dtype == np.uint8:
            rows = np.unique(np.linspace(0, len(value) - 1, STATS_IMAGES).astype(int))
            raw = get_feature_stats(value[rows].transpose(0, 3, 1, 2), axis=(0, 2, 3), keepdims=True)
            statistics[name] = {key: stat if key == "count" else np.squeeze(stat / 255.0, axis=0) for key, stat in raw.items()}
        else:
            statistics[name] = get_feature_stats(value, axis=0, keepdims=value.ndim == 1)
    return statistics
