"""Where a number comes from: commit, package versions and hardware, as a plain dictionary for JSON."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "transformers", "lerobot", "mujoco", "metaworld", "numpy")


def describe_environment() -> dict[str, Any]:
    """Commit (and whether tracked files other than results differ from it), versions and hardware.

    `commit` is empty outside a git repository; packages that are not installed are left out.
    """
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ":(top)", ":(top,exclude)configs/results")
    return {
        "commit": _git("rev-parse", "HEAD"),
        "dirty": bool(changed),
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "machine": f"{len(os.sched_getaffinity(0))} × {_cpu_name()}, {_memory_gib():.0f} GiB",
    }


def _git(*arguments: str) -> str:
    """Output of a git command in this repository; empty outside one or without git."""
    try:
        done = subprocess.run(["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _cpu_name() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
