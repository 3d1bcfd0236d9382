"""Markdown pages as programs: what a page shows is run, and what it says is printed must be printed.

    ```python                  a piece of the page's program: these blocks share one namespace, and may await
    ```python title="jobs.py"  a file in the page's folder, replaced by a later block of the same title
    ```console                 lines after "$ " are commands, run in that folder; the lines below are their whole output
    ```text, toml, mermaid     only shown

In expected output … stands for anything on that line, and a line of … alone for any number of lines. Ids and times need
not be equal: any id is like any other, any time like any other.
"""

from __future__ import annotations

import ast
import inspect
import os
import re
import shlex
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import anyio
from attrs import frozen

import taskweave

FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<body>.*?)^(?P=indent)```\s*$", re.MULTILINE | re.DOTALL)
TITLE = re.compile(r'^python title="(?P<title>[\w./-]+)"$')
VARYING = {
    "00000000-0000-7000-8000-000000000000": re.compile(
        r"\b[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}\b"
    ),
    "2000-01-01 00:00:00": re.compile(r"\b\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d+)?(?:\+00:00)?"),
}
SHOWN = {"bash", "text", "toml", "mermaid", "ini", "json", "diff"}
COMMAND_SECONDS_MAX = 90


@frozen
class Block:
    line: int
    info: str
    body: str

    @property
    def title(self) -> str | None:
        found = TITLE.match(self.info)
        return found["title"] if found else None


@frozen
class Shown:
    """One command of a console block with the output that the page shows for it."""

    line: int
    command: str
    output: str


def blocks(text: str) -> Iterator[Block]:
    for found in FENCE.finditer(text):
        body = re.sub(rf"^{found['indent']}", "", found["body"], flags=re.MULTILINE)
        yield Block(text.count("\n", 0, found.start()) + 1, found["info"].strip(), body)


def commands(block: Block) -> Iterator[Shown]:
    command, line, output = "", block.line, []
    for number, text in enumerate(block.body.splitlines(), block.line + 1):
        if text.startswith("$ "):
            if command:
                yield Shown(line, command, "\n".join(output))
            command, line, output = text[2:], number, []
        else:
            output.append(text)
    if command:
        yield Shown(line, command, "\n".join(output))


def settled(text: str) -> str:
    """The text with every id and every time replaced by one of its kind."""
    for one, any_of_its_kind in VARYING.items():
        text = any_of_its_kind.sub(one, text)
    return text


def matches(expected: str, printed: str) -> bool:
    expected, printed = settled(expected), settled(printed)
    pieces = [
        r"(?:[^\n]*\n)*" if line.strip() == "…" else re.escape(line.rstrip()).replace("…", r"[^\n]*") + r"\n"
        for line in expected.strip("\n").splitlines()
    ]
    lines = [line.rstrip() + "\n" for line in printed.strip("\n").splitlines()]
    return re.fullmatch("".join(pieces), "".join(lines)) is not None


def environment(folder: Path) -> dict[str, str]:
    """What a reader's shell has: python, and the command taskweave, of this installation."""
    bin_folder = folder / ".bin"
    bin_folder.mkdir(exist_ok=True)
    for name, arguments in {"python": "", "taskweave": " -m taskweave"}.items():
        script = bin_folder / name
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)}{arguments} "$@"\n', encoding="utf-8")
        script.chmod(0o755)
    source = Path(taskweave.__file__).parent.parent
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("TASKWEAVE_", "COVERAGE_"))},
        "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(source),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "COLUMNS": "100",
        "NO_COLOR": "1",
    }


def run_command(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run it as a reader would; its errors are part of what it prints."""
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment(folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=COMMAND_SECONDS_MAX,
        check=False,
    )


class Page:
    """Runs the blocks of one page in order, in one folder and one namespace."""

    def __init__(self, path: Path, folder: Path) -> None:
        self.path, self.folder = path, folder
        self.module = types.ModuleType(f"page_{path.stem.replace('-', '_')}")

    async def run(self) -> None:
        sys.modules[self.module.__name__] = self.module
        try:
            for block in blocks(self.path.read_text(encoding="utf-8")):
                await self._run(block)
        finally:
            del sys.modules[self.module.__name__]

    async def _run(self, block: Block) -> None:
        if block.title is not None:
            path = self.folder / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.body, encoding="utf-8")
        elif block.info == "python":
            await self._execute(block)
        elif block.info == "console":
            for shown in commands(block):
                done = await anyio.to_thread.run_sync(run_command, shown.command, self.folder)
                where = f"{self.path.name}:{shown.line} $ {shown.command}"
                assert matches(shown.output, done.stdout), f"{where}\nshown:\n{shown.output}\nprinted:\n{done.stdout}"
        else:
            assert block.info in SHOWN, f"{self.path.name}:{block.line}: what is a block {block.info!r}?"

    async def _execute(self, block: Block) -> None:
        source = "\n" * block.line + block.body  # so that a traceback names the line of the page
        code = compile(source, str(self.path), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        running = eval(code, self.module.__dict__)
        if inspect.isawaitable(running):
            await running
