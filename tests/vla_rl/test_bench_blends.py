"""`vla-rl bench blends` on the simulated arm, with a flow policy of random weights: every way runs, and bad input is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from policies.config import FlowHeadConfig, PolicyConfig
from tests.random_run import random_run
from tests.repo.imports import ROOT
from tests.vla_rl.test_cli import refused
from vla_rl.cli import main
from vla_rl.config import SimConfig

ARM7 = str(ROOT / "configs" / "robots" / "arm7.yaml")
SIM = SimConfig(backend="mujoco", tasks=("reach",), num_envs=1, workers=1, image_px=64, control="joint_delta")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("run")
    random_run(folder, SIM, PolicyConfig(head=FlowHeadConfig(steps=4)))
    assert main(["export", str(folder), "--out", str(folder / "bundle"), "--executed", "4"]) == 0
    return str(folder / "bundle")


def test_every_way_runs(bundle: str, tmp_path: Path) -> None:
    out = tmp_path / "blends.json"
    assert (
        main(["bench", "blends", bundle, "--robot", ARM7, "--episodes", "1", "--delays", "0", "--patience", "0.5", "--out", str(out)]) == 0
    )
    written = json.loads(out.read_text())
    assert len(written["bundle"]) == 64 and "commit" in written
    cells = {cell["way"]: cell for cell in written["cells"]}
    assert list(cells) == ["replace", "crossfade", "ensemble", "real-time chunking", "LeRobot's"]
    assert all(len(cell["outcomes"]) == 1 and cell["mean_border_jerk"] > 0 for cell in cells.values())
    jerks = [cell["mean_border_jerk"] for cell in cells.values()]
    assert len(set(jerks)) == 5, "no two ways are the same"
    assert [way for way, cell in cells.items() if cell["continued"] > 0] == ["real-time chunking", "LeRobot's"]


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--robot", ARM7, "--episodes", "0"], "episodes start at 1"),
        (["--robot", ARM7, "--jitter", "2"], "jitter is from 0 to 1"),
        (["--robot", ARM7, "--task", "fly"], "unknown tabletop task"),
        (["--robot", str(ROOT / "configs" / "robots" / "g1.yaml")], "unknown simulated robot"),
    ],
)
def test_bad_input_is_one_sentence(bundle: str, flags: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert sentence in refused(["bench", "blends", bundle, *flags], capsys)
