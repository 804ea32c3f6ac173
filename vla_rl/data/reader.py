"""Reading a LeRobotDataset v3 folder from disk, strictly and without LeRobot's hub fallback.

The folder is `meta/info.json`, `meta/tasks.parquet`, `meta/episodes/*/*.parquet`, `data/*/*.parquet` and,
for video features, `videos/<feature>/*/*.mp4`. Columns are read with pyarrow, images are decoded with
OpenCV; only video features need LeRobot (its decoder), which takes seconds to import.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from policies.interface import PolicySpec, SpecError, UserError

TASK_COLUMN = "vla_rl/task"
"""Column of the episodes table that holds the suite's task name; absent in data sets made elsewhere."""


@dataclass(frozen=True)
class EpisodeRow:
    """One row of the episodes table."""

    index: int
    task: str
    """Suite task name, or the instruction where the data set does not record one."""
    length: int
    data_file: Path
    videos: dict[str, tuple[Path, float]]
    """Per video feature: the file and the time [s] at which the episode starts in it."""


@dataclass(frozen=True)
class Folder:
    """An opened and verified dataset folder."""

    path: Path
    info: dict[str, Any]
    instructions: dict[int, str]
    """Instruction of each task_index."""
    episodes: tuple[EpisodeRow, ...]


def open_folder(path: Path) -> Folder:
    """Open a LeRobotDataset v3 folder and verify that it is complete.

    Raises:
        FileNotFoundError: the folder does not exist.
        UserError: it is not a LeRobotDataset v3, or a file of it is missing, truncated or corrupt.
    """
    if not path.is_dir():
        raise FileNotFoundError(f"no such dataset folder: {path}; make one with `vla-rl collect --out {path}`")
    info = _read_info(path)
    tasks = _read_table(path / "meta/tasks.parquet")
    names = tasks.column("task" if "task" in tasks.column_names else "__index_level_0__").to_pylist()
    instructions = dict(zip(tasks.column("task_index").to_pylist(), names, strict=True))
    folder = Folder(path, info, instructions, _read_episodes(path, info))
    _check_complete(folder)
    return folder


def check_features(folder: Folder, spec: PolicySpec) -> None:
    """Raise `SpecError` unless the dataset's cameras, states, actions and rate are those of `spec`."""
    features = folder.info["features"]
    if abs(folder.info["fps"] - spec.control_hz) > 1e-6:
        raise SpecError(f"dataset {folder.path} was recorded at {folder.info['fps']} Hz, the policy spec wants {spec.control_hz} Hz")
    for entry in spec.entries:
        if entry.kind == "text":
            continue
        if entry.kind not in ("image", "state"):
            raise SpecError(f"entry '{entry.name}' is of kind {entry.kind}; datasets provide image, state and text entries")
        feature = _feature(folder, entry.name)
        shape = _image_shape(feature) if entry.kind == "image" else tuple(feature["shape"])
        _require(folder, entry.name, "shape", shape, entry.shape)
        if entry.kind == "image" and feature["dtype"] not in ("image", "video"):
            raise SpecError(f"feature '{entry.name}' of dataset {folder.path} has dtype {feature['dtype']}, the spec wants images")
        if entry.kind == "state":
            _check_names(folder, entry.name, entry.names)
    _require(folder, "action", "shape", tuple(_feature(folder, "action")["shape"]), (spec.action.dim,))
    _check_names(folder, "action", spec.action.names)
    if any(features[entry.name]["dtype"] == "video" for entry in spec.of_kind("image")) and folder.info.get("video_path") is None:
        raise UserError(f"dataset {folder.path} has video features but no video_path in meta/info.json")


def read_rows(folder: Folder, episodes: list[EpisodeRow], columns: list[str]) -> Iterator[tuple[np.ndarray, pa.Table]]:
    """Read the frames of `episodes`, one row group at a time.

    Yields:
        Positions `(n,)` of the rows in the concatenation of `episodes`, and a table of the rows with `columns`.

    Raises:
        UserError: a data file is corrupt, or frames are missing, repeated or out of range.
    """
    lengths = np.array([episode.length for episode in episodes])
    starts = dict(zip((episode.index for episode in episodes), np.cumsum(lengths) - lengths, strict=True))
    size = dict(zip(starts, lengths, strict=True))
    seen = np.zeros(lengths.sum(), bool)
    for file in dict.fromkeys(episode.data_file for episode in episodes):
        for group in _row_groups(file, [*columns, "episode_index", "frame_index"], set(starts)):
            episode, frame = group.column("episode_index").to_numpy(), group.column("frame_index").to_numpy()
            if any(frame < 0) or any(frame >= [size[e] for e in episode]):
                raise UserError(f"{file} is corrupt: a frame_index exceeds its episode's length; collect the data set again")
            position = np.array([starts[e] for e in episode]) + frame
            seen[position] = True
            yield position, group
    if not seen.all():
        raise UserError(f"dataset {folder.path} is truncated: {int((~seen).sum())} of {len(seen)} frames are missing; collect it again")


def floats(column: pa.ChunkedArray, width: int) -> np.ndarray:
    """A float column as `(n, width)` float32. Raises `ValueError` where values are missing."""
    values = column.combine_chunks()
    flat = values.flatten() if pa.types.is_nested(values.type) else values
    if values.null_count or flat.null_count or len(flat) != len(values) * width:
        raise UserError(f"a column of {len(values)} rows holds {len(flat)} values where {width} per row are declared; it is corrupt")
    return flat.to_numpy(zero_copy_only=False).astype(np.float32).reshape(len(values), width)


def decode_images(column: pa.ChunkedArray, shape: tuple[int, ...], name: str) -> Iterator[np.ndarray]:
    """Decode a column of embedded image files (PNG, JPEG). Yields `(H, W, 3)` uint8 RGB."""
    for encoded in column.combine_chunks().field("bytes").to_pylist():
        if encoded is None:
            raise UserError(f"feature '{name}' holds image paths instead of embedded images; save the data set again with LeRobot")
        image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR_RGB)
        if image is None:
            raise UserError(f"feature '{name}' holds an image that cannot be decoded; collect the data set again")
        if image.shape != shape:
            raise SpecError(f"an image of feature '{name}' has shape {image.shape}, the spec wants {shape}")
        yield image


def decode_video(episode: EpisodeRow, name: str, times: np.ndarray, fps: float) -> np.ndarray:
    """Decode the frames of one episode at `times` `(T,)` [s from its start]. Returns `(T, H, W, 3)` uint8 RGB."""
    from lerobot.datasets.video_utils import decode_video_frames

    file, start = episode.videos[name]
    try:
        frames = decode_video_frames(file, (start + times).tolist(), tolerance_s=0.5 / fps, backend="pyav", return_uint8=True)
    except (OSError, RuntimeError, ValueError, AssertionError) as error:
        raise UserError(f"video {file} is truncated or corrupt: {_first_line(error)}; record the data set again") from error
    return frames.permute(0, 2, 3, 1).numpy()


def _read_info(path: Path) -> dict[str, Any]:
    file = path / "meta/info.json"
    if not file.is_file():
        raise UserError(f"{path} is not a LeRobotDataset: meta/info.json is missing")
    try:
        info = json.loads(file.read_text())
    except json.JSONDecodeError as error:
        raise UserError(f"{file} is truncated or corrupt: {error}") from error
    version = str(info.get("codebase_version"))
    if not version.startswith("v3"):
        raise UserError(f"dataset {path} has LeRobot format {version}, only v3 can be read; convert it with LeRobot's converter to v3.0")
    return info


def _read_table(file: Path) -> pa.Table:
    """Read a small table without the episodes' statistics."""
    if not file.is_file():
        raise UserError(f"the dataset is truncated: {file} is missing; collect it again")
    try:
        columns = [name for name in pq.read_schema(file).names if not name.startswith("stats/")]
        return pq.ParquetFile(file).read(columns=columns)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{file} is truncated or corrupt: {_first_line(error)}; collect the data set again") from error


def _read_episodes(path: Path, info: dict[str, Any]) -> tuple[EpisodeRow, ...]:
    videos = [key for key, feature in info["features"].items() if feature["dtype"] == "video"]
    rows: list[EpisodeRow] = []
    for file in sorted((path / "meta/episodes").glob("*/*.parquet")):
        for row in _read_table(file).to_pylist():
            where = {"chunk_index": row["data/chunk_index"], "file_index": row["data/file_index"]}
            video_files = {
                key: (
                    path
                    / info["video_path"].format(
                        video_key=key, chunk_index=row[f"videos/{key}/chunk_index"], file_index=row[f"videos/{key}/file_index"]
                    ),
                    float(row[f"videos/{key}/from_timestamp"]),
                )
                for key in videos
            }
            task = row.get(TASK_COLUMN) or (row["tasks"][0] if row["tasks"] else "")
            rows.append(EpisodeRow(row["episode_index"], task, row["length"], path / info["data_path"].format(**where), video_files))
    return tuple(sorted(rows, key=lambda row: row.index))


def _check_complete(folder: Folder) -> None:
    """Compare info.json, the episodes table and the row counts of the data files."""
    episodes, info = folder.episodes, folder.info
    frames = sum(episode.length for episode in episodes)
    for what, found in (("episodes", len(episodes)), ("frames", frames)):
        declared = info[f"total_{what}"]
        if found != declared:
            raise UserError(f"dataset {folder.path} is truncated: {found} of {declared} {what} are listed; collect it again")
    for file in dict.fromkeys(episode.data_file for episode in episodes):
        if not file.is_file():
            raise UserError(f"dataset {folder.path} is truncated: {file.relative_to(folder.path)} is missing; collect it again")
        try:
            found = pq.read_metadata(file).num_rows
        except (pa.ArrowInvalid, OSError) as error:
            raise UserError(f"{file} is truncated or corrupt: {_first_line(error)}; collect the data set again") from error
        wanted = sum(episode.length for episode in episodes if episode.data_file == file)
        if found != wanted:
            raise UserError(f"dataset {folder.path} is truncated: {file.name} holds {found} of {wanted} frames; collect it again")
    for file in dict.fromkeys(file for episode in episodes for file, _ in episode.videos.values()):
        if not file.is_file():
            raise UserError(f"dataset {folder.path} is truncated: {file.relative_to(folder.path)} is missing; record it again")


def _row_groups(file: Path, columns: list[str], episodes: set[int]) -> Iterator[pa.Table]:
    """Row groups of a data file, reduced to the wanted episodes; groups without any are not read."""
    try:
        with pq.ParquetFile(file) as source:
            for group in range(source.num_row_groups):
                present = source.read_row_group(group, columns=["episode_index"]).column(0).to_numpy()
                wanted = np.isin(present, list(episodes))
                if wanted.any():
                    table = source.read_row_group(group, columns=columns)
                    yield table if wanted.all() else table.filter(pa.array(wanted))
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{file} is truncated or corrupt: {_first_line(error)}; collect the data set again") from error


def _feature(folder: Folder, name: str) -> dict[str, Any]:
    features = folder.info["features"]
    if name not in features:
        raise SpecError(f"dataset {folder.path} has no feature '{name}', which the policy spec wants; it has {sorted(features)}")
    return features[name]


def _image_shape(feature: dict[str, Any]) -> tuple[int, ...]:
    """(H, W, C) of an image feature, which LeRobot data sets declare in either order."""
    shape, names = tuple(feature["shape"]), feature.get("names") or ()
    channels_first = names[0].startswith("channel") if names else shape[0] == 3
    return (*shape[1:], shape[0]) if channels_first else shape


def _require(folder: Folder, name: str, what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise SpecError(f"feature '{name}' of dataset {folder.path} has {what} {found}, the policy spec wants {wanted}")


def _check_names(folder: Folder, name: str, wanted: tuple[str, ...]) -> None:
    """Compare component names, without units in brackets; data sets that declare none are accepted."""
    declared = _feature(folder, name).get("names")
    if isinstance(declared, dict):
        lists = [value for value in declared.values() if isinstance(value, list)]
        declared = [item for value in lists for item in value] or list(declared)
    if declared:
        _require(folder, name, "components", tuple(map(_without_unit, declared)), tuple(map(_without_unit, wanted)))


def _without_unit(name: str) -> str:
    return name.split(" [")[0]


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
