"""The package's own source as trees, for the tests that judge it: layers, tidiness, names."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from attrs import frozen

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "taskweave"


@frozen
class Import:
    """One import as written. `module` is absolute; `lazy` when it stands inside a function or under TYPE_CHECKING."""

    path: str
    line: int
    module: str
    lazy: bool
    typing_only: bool

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]

    def __str__(self) -> str:
        return f"{self.path}:{self.line} imports {self.module}"


@cache
def sources() -> dict[str, str]:
    """Path below the package -> text, of every module that there is now."""
    return {
        path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))
    }


@cache
def tree(path: str) -> ast.Module:
    return ast.parse(sources()[path], path)


def imports(path: str, module: ast.Module | None = None) -> Iterator[Import]:
    yield from _imports(path, module or tree(path), lazy=False, typing_only=False)


def _imports(path: str, node: ast.AST, *, lazy: bool, typing_only: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(path, child.lineno, alias.name, lazy, typing_only)
        elif isinstance(child, ast.ImportFrom):
            source = _absolute(path, child)
            yield Import(path, child.lineno, source, lazy, typing_only)
            if source == "taskweave" or source.startswith("taskweave."):
                for alias in child.names:
                    yield Import(path, child.lineno, f"{source}.{alias.name}", lazy, typing_only)
        else:
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            typing = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            yield from _imports(path, child, lazy=lazy or inside, typing_only=typing_only or typing)


def _absolute(path: str, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    package = ["taskweave", *path.split("/")[:-1]]
    base = package[: len(package) - node.level + 1]
    return ".".join([*base, *([node.module] if node.module else [])])


def calls(path: str, module: ast.Module | None = None) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything called, names resolved through the module's own imports."""
    root = module or tree(path)
    known: dict[str, str] = {}
    for node in ast.walk(root):
        if isinstance(node, ast.Import):
            known.update({(alias.asname or alias.name).partition(".")[0]: alias.name for alias in node.names})
        elif isinstance(node, ast.ImportFrom) and not node.level:
            known.update({alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names})
    for node in ast.walk(root):
        if isinstance(node, ast.Call):
            name = _dotted(node.func)
            if name:
                head, dot, rest = name.partition(".")
                yield node.lineno, known.get(head, head) + dot + rest


def _dotted(node: ast.expr) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base = _dotted(node.value)
        return f"{base}.{node.attr}" if base else f"?.{node.attr}"
    return None
