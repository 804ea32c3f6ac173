"""The run folder: everything that one training run leaves behind.

runs/x/  config.yaml  environment.json  metrics.jsonl  tensorboard/  checkpoints/  policy/  result.json
"""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from policies.interface import UserError
from vla_rl.config import Config, dump_yaml
from vla_rl.provenance import describe_environment

MIN_FREE_BYTES = 200 * 2**20


class Run:
    """An open run folder. `log` writes one row to `metrics.jsonl` and TensorBoard."""

    def __init__(self, folder: Path, config: Config, resume: bool) -> None:
        self.folder, self.config = folder, config
        self.checkpoints = folder / "checkpoints"
        if (folder / "config.yaml").exists() and not resume:
            raise UserError(f"{folder} already holds a run; continue it with --resume or choose another --run-dir")
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if free < MIN_FREE_BYTES:
            raise UserError(f"only {free >> 20} MiB are free under {folder}; a run needs at least {MIN_FREE_BYTES >> 20} MiB")
        dump_yaml(config, folder / "config.yaml")
        environment = {"command": shlex.join(["vla-rl", *sys.argv[1:]]), **describe_environment()}
        (folder / "environment.json").write_text(json.dumps(environment, indent=2) + "\n")
        self.rows: list[dict[str, Any]] = []
        self._writer: SummaryWriter | None = None

    def start_at(self, updates: int) -> None:
        """Open the logs for a run that continues after `updates` updates; later rows are from a lost future and dropped."""
        path = self.folder / "metrics.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
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
