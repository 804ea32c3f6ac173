"""Where generated files are kept between runs, and packages that this project's own environment cannot hold."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Sequence
from pathlib import Path

from sim.vec_env import SimulationError


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/vla-rl`, by default `~/.cache/vla-rl`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vla-rl"


def isolated(requirement: str, purpose: str, dependencies: bool = True, also: Sequence[str] = ()) -> Path:
    """A virtual environment that holds a pinned package, `name==version`, installed when it is needed for the first time.

    Args:
        requirement: what pip installs.
        purpose: what it is for, as the end of "…, which …".
        dependencies: also what it depends on; without, only its files are of use.
        also: further pinned packages beside it.

    Raises:
        SimulationError: it cannot be installed.
    """
    home = cache_folder() / "-".join([requirement.replace("==", "-"), *_digest(also)])
    cache_folder().mkdir(parents=True, exist_ok=True)
    with Path(f"{home}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one process installs, others wait
        if not (home / "installed").is_file():
            _install([requirement, *also], purpose, dependencies, home)
    return home


def _digest(also: Sequence[str]) -> list[str]:
    """Tells folders with different companions apart."""
    return [hashlib.sha256(" ".join(also).encode()).hexdigest()[:8]] if also else []


def _install(requirements: list[str], purpose: str, dependencies: bool, home: Path) -> None:
    print(f"installing {', '.join(requirements)} into {home}", file=sys.stderr)
    shutil.rmtree(home, ignore_errors=True)
    only = [] if dependencies else ["--no-deps"]
    install = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", *only, *requirements]
    try:
        venv.create(home, with_pip=True)
        subprocess.run(install, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        shutil.rmtree(home, ignore_errors=True)
        said = str(getattr(error, "stderr", None) or error).strip()[-500:]
        raise SimulationError(f"cannot install {requirements[0]}, which {purpose}: {said}") from error
    (home / "installed").touch()


def packages(environment: Path) -> Path:
    """Where the packages of a virtual environment lie."""
    return Path(sysconfig.get_path("purelib", "venv", {"base": str(environment), "platbase": str(environment)}))
