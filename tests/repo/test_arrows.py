"""Who may import whom: policies is the leaf, simulation knows its interface, robots never see training code."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.repo.imports import PACKAGES, ROOT, Import, imports, modules

ALLOWED = {
    "policies": (),
    "sim": ("policies.interface",),
    "vla_rl": ("policies", "sim"),
    "robot": ("policies",),
}
"""What a package may import of ours besides itself."""

EXTRA = {"sim/ros2": ("robot.profile", "robot.ros2.graph", "robot.ros2.messages", "robot.ros2.realtime")}
"""What the files under a folder may import on top of that."""

ONLY_UNDER = {"rclpy": ("robot/ros2", "sim/ros2"), "isaaclab": ("sim/isaaclab",)}
"""Libraries (and theirs: isaaclab_newton) that are confined to a folder."""

DISPATCHERS = ("vla_rl/cli.py", "vla_rl/commands.py", "vla_rl/bench_commands.py")
"""May import anything of ours inside functions, so that `--help` and other verbs do not pay for it."""


def violation(found: Import) -> str | None:
    """Why an import is not allowed, None if it is."""
    package, target = found.file.split("/")[0], found.target
    library = target.split(".")[0]
    for name, folders in ONLY_UNDER.items():
        if (library == name or library.startswith(f"{name}_")) and not _under(found.file, folders):
            return f"{found.file}:{found.line} imports {target}, which belongs under {' or '.join(folders)}"
    if library not in PACKAGES or library == package or (found.file in DISPATCHERS and found.lazy):
        return None
    allowed = ALLOWED[package] + tuple(name for folder, names in EXTRA.items() if _under(found.file, (folder,)) for name in names)
    if any(target == name or target.startswith(f"{name}.") for name in allowed):
        return None
    return f"{found.file}:{found.line} imports {target}; {package} may import {', '.join(allowed) or 'nothing'} of ours"


def _under(file: str, folders: tuple[str, ...]) -> bool:
    return any(file.startswith(f"{folder}/") for folder in folders)


def violations(root: Path) -> list[str]:
    """All violations of the packages under `root`."""
    return [reason for path in modules(root) for found in imports(root, path) if (reason := violation(found))]


def test_imports_point_downwards():
    assert len(list(modules(ROOT))) > 5
    assert violations(ROOT) == []


def _tree(root: Path, files: dict[str, str]) -> Path:
    """A small repository in which every module that the cases below name exists."""
    names = ["policies/interface.py", "policies/vla.py", "sim/vec_env.py", "vla_rl/train.py", "robot/profile.py", "robot/safety.py"]
    for name in [*(f"{package}/__init__.py" for package in PACKAGES), *names]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    for name, source in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(source)
    return root


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("policies/bad.py", "import sim.vec_env"),
        ("policies/bad.py", "from vla_rl import train"),
        ("policies/bad.py", "def f():\n    import robot"),
        ("sim/bad.py", "import policies"),
        ("sim/bad.py", "from policies import vla"),
        ("sim/bad.py", "from policies.vla import VLA"),
        ("sim/bad.py", "if TYPE_CHECKING:\n    from policies.vla import VLA"),
        ("sim/deep/bad.py", "from ...policies import vla"),
        ("sim/bad.py", "import vla_rl.train"),
        ("sim/bad.py", "import importlib\nimportlib.import_module('vla_rl.train')"),
        ("sim/bad.py", "import robot.profile"),
        ("sim/ros2/bad.py", "import robot.safety"),
        ("vla_rl/bad.py", "import robot"),
        ("vla_rl/cli.py", "import robot.safety"),
        ("vla_rl/commands.py", "import robot.safety"),
        ("robot/bad.py", "import sim.vec_env"),
        ("robot/bad.py", "from vla_rl.train import train"),
        ("robot/bad.py", "import rclpy"),
        ("vla_rl/cli.py", "def f():\n    import rclpy.node"),
        ("vla_rl/bad.py", "import isaaclab.envs"),
        ("sim/bad.py", "from isaaclab_newton.physics import NewtonCfg"),
    ],
)
def test_a_violation_is_found(tmp_path: Path, file: str, source: str):
    found = violations(_tree(tmp_path, {file: source}))
    assert len(found) == 1, found
    assert found[0].startswith(f"{file}:")


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("policies/good.py", "import torch\nfrom policies.vla import VLA\nfrom . import interface"),
        ("sim/good.py", "from policies.interface import Entry\nfrom policies import interface\nimport sim.vec_env"),
        ("sim/ros2/good.py", "import rclpy\nfrom robot.profile import Profile"),
        ("sim/isaaclab/good.py", "import isaaclab.envs, isaaclab_newton"),
        ("vla_rl/good.py", "import policies.vla, sim"),
        ("vla_rl/cli.py", "def f():\n    from robot import safety"),
        ("vla_rl/commands.py", "def f():\n    from robot import safety"),
        ("robot/good.py", "from policies.interface import PolicySpec"),
        ("robot/ros2/good.py", "import rclpy"),
    ],
)
def test_what_is_allowed_passes(tmp_path: Path, file: str, source: str):
    assert violations(_tree(tmp_path, {file: source})) == []
