"""Limits that keep the code readable. A file or function that outgrows them is cut, the limit is not raised."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from sim.tasks import TASKS
from tests.repo.imports import ROOT, closure, locate, modules

FILE_LINES = 400
FUNCTION_LINES = 100
PRESETS, PRESET_LINES = 20, 25
TRAIN_CLOSURE_FILES = 80  # heads and algorithms, one file each; the suite's tasks are not counted; rsl_rl has 28, openpi 38, torchtitan 82
CORE_DEPENDENCIES = 12

SOURCES = [*modules(ROOT), *sorted((ROOT / "tests").rglob("*.py"))]


def _presets() -> list[Path]:
    return sorted(path for path in (ROOT / "configs").rglob("*.yaml") if path.parent.name not in ("grids", "results", "robots"))


def test_files_are_short():
    long = {path.relative_to(ROOT).as_posix(): lines for path in SOURCES if (lines := len(path.read_text().splitlines())) > FILE_LINES}
    assert long == {}


def test_functions_are_short():
    long = {}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno - node.lineno + 1 > FUNCTION_LINES:
                long[f"{path.relative_to(ROOT).as_posix()}:{node.lineno} {node.name}"] = node.end_lineno - node.lineno + 1
    assert long == {}


def test_presets_are_few_and_short():
    presets = _presets()
    assert 1 <= len(presets) <= PRESETS
    for preset in presets:
        lines = [line for line in preset.read_text().splitlines() if line.strip() and not line.strip().startswith("#")]
        assert len(lines) <= PRESET_LINES, f"{preset.name} has {len(lines)} lines of settings, presets hold differences only"


@pytest.mark.parametrize("preset", _presets(), ids=lambda path: path.stem)
def test_preset_loads_and_is_described(preset: Path):
    from vla_rl.config import Config
    from vla_rl.data.collect import CollectConfig
    from vla_rl.presets import ConfigError, load_config

    refused = []
    for schema in (Config, CollectConfig):
        try:
            load_config(schema, preset)
        except ConfigError as error:
            refused.append(str(error))
    assert len(refused) <= 1, refused
    assert preset.name in (ROOT / "configs" / "README.md").read_text()


@pytest.mark.parametrize("grid", sorted((ROOT / "configs" / "grids").glob("*.yaml")), ids=lambda path: path.stem)
def test_grid_loads_and_is_described(grid: Path):
    from vla_rl.grid import load_grid

    load_grid(grid)
    assert grid.name in (ROOT / "configs" / "README.md").read_text()


def test_training_reaches_few_files():
    assert locate(ROOT, "vla_rl.train"), "there is no vla_rl/train.py"
    reached = sorted(path.relative_to(ROOT).as_posix() for path in closure(ROOT, "vla_rl.train") if _has_code(path))
    reached = [file for file in reached if file.removeprefix("sim/tasks/").removesuffix(".py") not in TASKS]
    assert len(reached) <= TRAIN_CLOSURE_FILES, reached


def _has_code(path: Path) -> bool:
    """Whether there is more to read than a docstring."""
    return any(not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)) for node in ast.parse(path.read_text()).body)


def test_closure_follows_every_kind_of_import(tmp_path: Path):
    for name, source in {
        "vla_rl/__init__.py": "",
        "vla_rl/train.py": "from vla_rl import loops\nimport numpy",
        "vla_rl/loops.py": "def f():\n    from sim.vec_env import VecEnv",
        "sim/__init__.py": "from sim import tasks",
        "sim/vec_env.py": "",
        "sim/tasks.py": "from .vec_env import VecEnv",
        "sim/unused.py": "",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(source)
    reached = {path.relative_to(tmp_path).as_posix() for path in closure(tmp_path, "vla_rl.train")}
    assert reached == {"vla_rl/__init__.py", "vla_rl/train.py", "vla_rl/loops.py", "sim/__init__.py", "sim/vec_env.py", "sim/tasks.py"}


def test_the_core_has_few_dependencies():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert len(project["dependencies"]) <= CORE_DEPENDENCIES
