"""The installed packages are ours, start light, and the repository names no machine."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.repo.imports import PACKAGES, ROOT

HEAVY = ("torch", "mujoco", "metaworld", "lerobot", "transformers", "diffusers", "matplotlib")
HELP_CPU_S = 1.0


def _python(code: str, cwd: Path) -> str:
    """Output of a fresh interpreter that sees installed packages only: not the working directory, not pytest's paths."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("package", [name for name in PACKAGES if (ROOT / name / "__init__.py").exists()])
def test_no_other_package_shadows_ours(package: str, tmp_path: Path):
    file = _python(f"import {package}; print({package}.__file__)", cwd=tmp_path)
    assert Path(file) == ROOT / package / "__init__.py"


def test_the_simulation_backends_do_not_shadow_their_libraries():
    folders = [path.parent.name for path in (ROOT / "sim").glob("*/__init__.py")]
    assert "metaworld" in folders
    for name in folders:
        library = importlib.util.find_spec(name)
        assert library is None or not Path(library.origin).is_relative_to(ROOT / "sim"), f"import {name} gives {library.origin}"
    assert importlib.util.find_spec("metaworld") is not None


@pytest.mark.parametrize(
    "module", ["policies.interface", "policies.deployed", "robot.loop", "robot.serve.client", "sim.vec_env", "vla_rl.config", "vla_rl.cli"]
)
def test_light_modules_import_nothing_heavy(module: str, tmp_path: Path):
    loaded = _python(f"import sys, {module}; print([name for name in {HEAVY} if name in sys.modules])", cwd=tmp_path)
    assert loaded == "[]"


def test_help_answers_quickly(tmp_path: Path):
    command = Path(sys.executable).with_name("vla-rl")
    assert command.exists(), "the console script is missing, run make setup"

    def cpu_s() -> float:
        process = subprocess.Popen([command, "--help"], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        process.stdout.close()
        assert process.returncode == 0
        assert "vla-rl" in output
        return usage.ru_utime + usage.ru_stime

    assert min(cpu_s() for _ in range(3)) < HELP_CPU_S


# Written in pieces, so that this file does not find itself.
HOSTS = ("pypi" + ".org", "python" + "hosted.org", "registry.npm" + "js", "download.py" + "torch.org", "deb." + "debian.org")
MACHINE_PATH = re.compile(r"(?<![\w.*<>])/(?:work/|ro" + r"ot/|opt/wheels|home/\w+/)")


def names_a_machine(text: str) -> list[str]:
    """Package registry hosts and paths of somebody's machine in a text."""
    return [host for host in HOSTS if host in text] + MACHINE_PATH.findall(text)


def test_tracked_files_name_no_machine():
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    found = {}
    for name in filter(None, tracked):
        path = ROOT / name
        if path.is_file() and (names := names_a_machine(path.read_bytes().decode("utf-8", errors="ignore"))):
            found[name] = names
    assert found == {}


@pytest.mark.parametrize(
    "text",
    [f"--index-url https://{HOSTS[0]}/simple", "/ro" + "ot/.pyenv", "cd /wo" + "rk/main", "at /ho" + "me/ann/vla"],
)
def test_a_machine_is_found(text: str):
    assert names_a_machine(text)


@pytest.mark.parametrize("text", ["frame/work/flow", "teamwork/", "configs/home", "/usr/bin/env bash", "the root of the tree"])
def test_other_text_passes(text: str):
    assert not names_a_machine(text)
