"""Arguments of verbs, around a config or without one; heavy imports stay inside."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from typing import NoReturn

from vla_rl.presets import ConfigError


class Parser(argparse.ArgumentParser):
    """Arguments around a config; an error is one sentence like every other bad input."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{self.prog}: {message}; see {self.prog} --help")


def make_parser(verb: str, description: str, config: bool = False) -> Parser:
    """The parser of a verb; with `config` its settings are flags too, and --help lists them."""
    return Parser(prog=f"vla-rl {verb}", description=description, allow_abbrev=False, add_help=not config)


def require_ros(verb: str) -> None:
    """Raise `ConfigError` without rclpy."""
    if importlib.util.find_spec("rclpy") is None:
        raise ConfigError(f"{verb} needs ROS 2: install the extra 'ros' (pip install 'vla-rl[ros]')")


def add_logs(parser: Parser, folder: str) -> None:
    """`--logs DIR`."""
    parser.add_argument("--logs", type=Path, default=Path(folder), help=f"folder for the logs of the processes (default: {folder})")
