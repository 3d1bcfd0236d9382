"""The three tasks of the demo, one for each run mode; plain functions, so that a child process finds them by name."""

from __future__ import annotations

import ast
import hashlib
import lzma
import warnings
from pathlib import Path

import anyio


async def hash_file(path: str) -> str:
    """In the loop: reading waits elsewhere, hashing a source file takes microseconds."""
    return hashlib.sha256(await anyio.Path(path).read_bytes()).hexdigest()


def compress_file(path: str) -> list[int]:
    """In a thread: lzma lets go of the interpreter while it works. Bytes before and after."""
    data = Path(path).read_bytes()
    return [len(data), len(lzma.compress(data, preset=1))]


def parse_file(path: str) -> dict[str, int]:
    """In a process: parsing holds the interpreter for its whole time. How many nodes, functions and classes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        tree = ast.parse(Path(path).read_bytes(), filename=path)
    nodes = list(ast.walk(tree))
    functions = sum(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in nodes)
    return {
        "nodes": len(nodes),
        "functions": functions,
        "classes": sum(isinstance(node, ast.ClassDef) for node in nodes),
    }
