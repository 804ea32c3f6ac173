"""Reads the import statements of our packages without executing them, for the tests of this folder."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("policies", "sim", "vla_rl", "robot")


@dataclass(frozen=True)
class Import:
    """One imported module, as `file:line` sees it; `lazy` if the statement stands inside a function."""

    file: str
    line: int
    target: str
    lazy: bool


def modules(root: Path) -> Iterator[Path]:
    """Source files of our packages."""
    for package in PACKAGES:
        yield from sorted((root / package).rglob("*.py"))


def locate(root: Path, target: str) -> Path | None:
    """The file of a module of ours, None for anything else."""
    path = root.joinpath(*target.split("."))
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((file for file in candidates if file.is_file()), None)


def imports(root: Path, path: Path) -> list[Import]:
    """All imports of one file: of modules, names, under TYPE_CHECKING, inside functions, by `import_module("literal")`."""
    found: list[Import] = []

    def visit(node: ast.AST, lazy: bool) -> None:
        for target in _targets(node, root, path):
            found.append(Import(path.relative_to(root).as_posix(), node.lineno, target, lazy))
        for child in ast.iter_child_nodes(node):
            visit(child, lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))

    visit(ast.parse(path.read_text(), filename=str(path)), lazy=False)
    return found


def _targets(node: ast.AST, root: Path, path: Path) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parent = path.relative_to(root).parts[: -node.level]
            base = ".".join([*parent, *filter(None, [base])])
        # `from package import name` means package.name where that is a module, else the package.
        return [f"{base}.{alias.name}" if locate(root, f"{base}.{alias.name}") else base for alias in node.names]
    if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
            return [node.args[0].value]
    return []


def closure(root: Path, entry: str) -> set[Path]:
    """Files of ours that `entry` reaches by imports, lazy ones and the packages' `__init__` files included."""
    reached: set[Path] = set()
    waiting = [entry]
    while waiting:
        parts = waiting.pop().split(".")
        for length in range(1, len(parts) + 1):
            file = locate(root, ".".join(parts[:length]))
            if file and file not in reached and parts[0] in PACKAGES:
                reached.add(file)
                waiting += [found.target for found in imports(root, file)]
    return reached
