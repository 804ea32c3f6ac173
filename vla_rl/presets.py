"""Read, check, override and write settings.

A preset, a run's own `config.yaml` and the command line all pass through `load_config`: unknown keys,
wrong types and out-of-range values are refused with the path of the key and the nearest known name.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from policies.interface import UserError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


class ConfigError(UserError):
    """A preset, a run's config or a flag is not valid."""


def load_config[T: BaseModel](schema: type[T], path: Path | None, overrides: Sequence[str] = (), prog: str | None = None) -> T:
    """Read a preset (or a run's `config.yaml`), then apply command-line flags such as `--algorithm.lr 1e-4`."""
    tree = read_yaml(path) if path else {}
    for key, name in _chosen(overrides):
        _choose(tree, key.split("."), name)
    return apply_flags(validate(schema, tree, str(path or "defaults")), overrides, prog)


def _chosen(flags: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Flags that choose a kind by name, such as `--policy.head.name flow`: (`policy.head`, `flow`)."""
    words = [word for flag in flags for word in flag.split("=", 1)]
    for flag, value in itertools.pairwise(words):
        if flag.startswith("--") and flag.endswith(".name"):
            yield flag.removeprefix("--").removesuffix(".name"), value


def _choose(tree: dict[str, Any], path: Sequence[str], name: str) -> None:
    """Set the kind at `path`; what the preset says about another kind does not apply to it and is left out."""
    *parents, last = path
    for key in parents:
        tree = tree.setdefault(key, {})
    if tree.get(last, {}).get("name") != name:
        tree[last] = {"name": name}


def apply_flags[T: BaseModel](config: T, flags: Sequence[str], prog: str | None = None) -> T:
    """Override settings by flags; `--sim NAME` is short for `--sim.backend NAME`.

    A wrong flag ends the program with a message that suggests the nearest one.
    """
    import tyro  # slow to import; not needed where there are no flags

    markers = (tyro.conf.FlagConversionOff, tyro.conf.AvoidSubcommands)
    spelled_out = [f"--sim.backend{flag[5:]}" if flag == "--sim" or flag.startswith("--sim=") else flag for flag in flags]
    return tyro.cli(type(config), default=config, args=spelled_out, prog=prog, config=markers)


def validate[T: BaseModel](schema: type[T], tree: dict[str, Any], source: str) -> T:
    """Build a config from a mapping. Raises `ConfigError` that lists every wrong key with its path and nearest known name."""
    try:
        return schema.model_validate(tree)
    except ValidationError as error:
        raise ConfigError("; ".join(f"{source}: {_describe(problem, schema)}" for problem in error.errors())) from None


def _describe(problem: ErrorDetails, schema: type[BaseModel]) -> str:
    path = ".".join(str(part) for part in problem["loc"])
    if problem["type"] != "extra_forbidden":
        return f"{path or 'config'} = {problem['input']!r}: {problem['msg'][0].lower()}{problem['msg'][1:]}"
    known = sorted(set(_keys(schema)))
    key = str(problem["loc"][-1])
    near = difflib.get_close_matches(key, {name.rsplit(".", 1)[-1]: None for name in known}, n=1, cutoff=0.7)
    hint = (
        f"did you mean {' or '.join(name for name in known if name.rsplit('.', 1)[-1] == near[0])}?"
        if near
        else f"known are {', '.join(known)}"
    )
    return f"unknown key {path}; {hint}"


def _keys(schema: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Dotted names of every setting of a schema, through nested models and unions."""
    for name, field in schema.model_fields.items():
        nested = [t for t in (field.annotation, *get_args(field.annotation)) if isinstance(t, type) and issubclass(t, BaseModel)]
        yield prefix + name
        for model in nested:
            yield from _keys(model, f"{prefix}{name}.")


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping. Raises `ConfigError` with the path."""
    if not path.is_file():
        raise ConfigError(f"no such preset or config file: {path}")
    try:
        tree = yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} must hold a mapping of settings, got {type(tree).__name__}")
    return tree


def dump_yaml(config: BaseModel, path: Path) -> None:
    """Write the fully resolved config; the file is itself a valid preset."""
    path.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
