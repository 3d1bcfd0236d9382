"""The three tasks of the demo, one for each run mode; plain functions, so that a child process finds them by name.

Each tells how long it worked itself: from the store's point of view a job that waits for a free child runs already.
"""

from __future__ import annotations

import ast
import hashlib
import lzma
import warnings
from pathlib import Path

import anyio
from attrs import frozen

from taskweave._runtime.env import SystemEnv
from taskweave.core.ids import Micros

_env = SystemEnv()


@frozen
class Hashed:
    sha256: str
    took_us: Micros


@frozen
class Compressed:
    before: int
    after: int
    took_us: Micros


@frozen
class Parsed:
    nodes: int
    functions: int
    classes: int
    took_us: Micros


async def hash_file(path: str) -> Hashed:
    """In the loop: reading waits elsewhere, hashing a source file takes microseconds."""
    began = _env.now()
    digest = hashlib.sha256(await anyio.Path(path).read_bytes()).hexdigest()
    return Hashed(digest, _env.now() - began)


def compress_file(path: str) -> Compressed:
    """In a thread: lzma lets go of the interpreter while it works."""
    began = _env.now()
    data = Path(path).read_bytes()
    compressed = lzma.compress(data, preset=1)
    return Compressed(len(data), len(compressed), _env.now() - began)


def parse_file(path: str) -> Parsed:
    """In a process: parsing holds the interpreter for its whole time. Raises SyntaxError."""
    began = _env.now()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        tree = ast.parse(Path(path).read_bytes(), filename=path)
    nodes = list(ast.walk(tree))
    functions = sum(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in nodes)
    classes = sum(isinstance(node, ast.ClassDef) for node in nodes)
    return Parsed(len(nodes), functions, classes, _env.now() - began)
