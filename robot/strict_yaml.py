"""Read YAML so that nothing is lost: a key that appears twice is an error, as is anything that is not a mapping."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from policies.interface import UserError


class StrictYamlError(UserError):
    """A file is missing, is not YAML, or says something twice."""


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if twice := sorted({str(key) for key in keys if keys.count(key) > 1}):
            raise StrictYamlError(f"{self.name}, line {node.start_mark.line + 1}: {', '.join(twice)} is given more than once")
        return super().construct_mapping(node, deep)


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds. Raises `StrictYamlError`."""
    if not path.is_file():
        raise StrictYamlError(f"no such file: {path}")
    with path.open() as file:
        try:
            tree = yaml.load(file, _Loader)
        except yaml.YAMLError as error:
            raise StrictYamlError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(tree, dict):
        raise StrictYamlError(f"{path} must hold a mapping, got {type(tree).__name__}")
    return tree
