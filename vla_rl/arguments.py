"""Arguments of verbs, around a config or without one; heavy imports stay inside."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from typing import Any, NoReturn

from vla_rl.presets import ConfigError


class Parser(argparse.ArgumentParser):
    """Arguments around a config; an error is one sentence like every other bad input."""

    asked = False
    """Whether help is wanted that this parser leaves to the config's."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse, and help where the config's cannot be shown, as nothing says yet which config."""
        self.asked = not self.add_help and not {"-h", "--help"}.isdisjoint(args or ())
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        if self.asked:
            self.print_help()
            self.exit()
        raise ConfigError(f"{self.prog}: {message}; see {self.prog} --help")


def make_parser(verb: str, description: str, config: bool = False) -> Parser:
    """The parser of a verb; with `config` its settings are flags too, and --help lists them."""
    settings = "every setting is a flag too; --help after the arguments above lists them" if config else None
    return Parser(prog=f"vla-rl {verb}", description=description, epilog=settings, allow_abbrev=False, add_help=not config)


def require_ros(verb: str) -> None:
    """Raise `ConfigError` without rclpy."""
    if importlib.util.find_spec("rclpy") is None:
        raise ConfigError(f"{verb} needs ROS 2: install the extra 'ros' (pip install 'vla-rl[ros]')")


def add_logs(parser: Parser, folder: str) -> None:
    """`--logs DIR`."""
    parser.add_argument("--logs", type=Path, default=Path(folder), help=f"folder for the logs of the processes (default: {folder})")
