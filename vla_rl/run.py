"""The run folder: everything that one training run leaves behind.

runs/x/  config.yaml  environment.jsonl  metrics.jsonl  tensorboard/  checkpoints/  policy/  result.json
"""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from policies.interface import UserError, flatten
from vla_rl.config import Config
from vla_rl.presets import dump_yaml, read_yaml, validate
from vla_rl.provenance import describe_environment

MIN_FREE_BYTES = 200 * 2**20


class Run:
    """An open run folder. `log` writes one row to `metrics.jsonl` and TensorBoard."""

    def __init__(self, folder: Path, config: Config, resume: bool) -> None:
        self.folder, self.config = folder, config
        self.checkpoints = folder / "checkpoints"
        require_fresh_or_same(folder, config, resume)
        free = shutil.disk_usage(next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())).free
        if free < MIN_FREE_BYTES:
            raise UserError(f"only {free >> 20} MiB are free for {folder}; a run needs at least {MIN_FREE_BYTES >> 20} MiB")
        folder.mkdir(parents=True, exist_ok=True)
        dump_yaml(config, folder / "config.yaml")
        with (folder / "environment.jsonl").open("a") as file:  # a line for each time the run was started or resumed
            file.write(json.dumps({"command": shlex.join(["vla-rl", *sys.argv[1:]]), **describe_environment()}) + "\n")
        self.rows: list[dict[str, Any]] = []
        self._writer: SummaryWriter | None = None

    def start_at(self, updates: int) -> None:
        """Open the logs for a run that continues after `updates` updates; later rows are from a lost future and dropped."""
        path = self.folder / "metrics.jsonl"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        rows = [json.loads(line) for line in lines if line.endswith("\n")]  # a crash may have cut the last line
        self.rows = [row for row in rows if row["update"] <= updates]
        path.write_text("".join(json.dumps(row) + "\n" for row in self.rows))
        self._writer = SummaryWriter(str(self.folder / "tensorboard"), purge_step=updates + 1)

    def log(self, row: dict[str, Any]) -> None:
        """Append one row; it needs the key `update`, and every number becomes a TensorBoard scalar."""
        assert self._writer is not None
        self.rows.append(row)
        with (self.folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        for name, value in row.items():
            if isinstance(value, int | float):
                self._writer.add_scalar(name, value, row["update"])

    def finish(self, result: dict[str, Any]) -> None:
        """Write `result.json` in one step; its presence says that the run is complete."""
        part = self.folder / "result.json.part"
        part.write_text(json.dumps(result, indent=1) + "\n")
        part.rename(self.folder / "result.json")
        self.close()

    def close(self) -> None:
        """Flush TensorBoard."""
        if self._writer is not None:
            self._writer.close()


def require_fresh_or_same(folder: Path, config: Config, resume: bool) -> None:
    """Raise `UserError` unless `folder` holds no run, or a run of the same config that is to be resumed."""
    stored = folder / "config.yaml"
    if not stored.exists():
        return
    if not resume:
        raise UserError(f"{folder} already holds a run; continue it with --resume or choose another --run-dir")
    found = validate(Config, read_yaml(stored), str(stored))  # with defaults for settings that are newer than the run
    before, now = (flatten(tree.model_dump(mode="json")) for tree in (found, config))
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key):
            raise UserError(f"{folder} was started with {key} = {before.get(key)}, now {now.get(key)}; a resumed run keeps its settings")
