"""The command line as its users meet it: a subprocess in a folder of its own, or in-process where that is enough."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from queue import Queue
from typing import Any, TypeVar

import anyio
import pytest
from click.testing import CliRunner, Result

from taskweave import App
from taskweave.cli import root

ROOT = Path(__file__).parents[2]
SECONDS = 60.0
R = TypeVar("R")

APP = '''\
"""An app for tests of the command line."""

import logging
import time
from pathlib import Path

import anyio

from taskweave import App, Retry

app = App("sqlite:///jobs.db")
log = logging.getLogger("users.own")


@app.task
async def hello(name: str) -> str:
    log.info("saying hello")
    return f"hello {name}"


@app.task(queue="mail", retry=Retry(2, base="1ms"))
def broken(secret: str) -> None:
    raise ValueError("no\\nsuch \\x1b[31m[bold]address")


@app.task
def stuck() -> None:
    """Waits in C code, where nothing can stop it."""
    log.info("asleep")
    time.sleep(60)


@app.task
async def patient(go: str) -> str:
    """Waits for a file."""
    log.info("begun")
    while not Path(go).exists():
        await anyio.sleep(0.01)
    return "done"
'''


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TASKWEAVE_")}
    return {**kept, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of the test, with an app in app.py."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TASKWEAVE_STORE", raising=False)
    (tmp_path / "jobsapp.py").write_text(APP)
    return tmp_path


@pytest.fixture
def loaded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The app's module, imported afresh."""
    import importlib

    monkeypatch.syspath_prepend(str(folder))
    sys.modules.pop("jobsapp", None)
    yield importlib.import_module("jobsapp")
    sys.modules.pop("jobsapp", None)


@pytest.fixture
def invoke(folder: Path) -> Callable[..., Result]:
    """Runs a command in this process."""

    def run(*args: str, input: str | None = None) -> Result:
        return CliRunner().invoke(root, [str(each) for each in args], input=input, prog_name="taskweave")

    return run


@pytest.fixture
def command(folder: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a command as a process, to its end."""

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "taskweave", *(str(each) for each in args)]
        return subprocess.run(
            line, cwd=folder, env=environment(), capture_output=True, text=True, timeout=SECONDS, check=False
        )

    return run


class Running:
    """A command that runs; its stderr is read line by line."""

    def __init__(self, folder: Path, args: tuple[str, ...]) -> None:
        line = [sys.executable, "-m", "taskweave", *(str(each) for each in args)]
        self.process = subprocess.Popen(
            line,
            cwd=folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self._waiting: Queue[str | None] = Queue()
        self._readers = [
            threading.Thread(target=self._read, args=(stream,), daemon=True)
            for stream in (self.process.stderr, self.process.stdout)
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: Any) -> None:
        for line in stream:
            self.lines.append(line)
            self._waiting.put(line)
        self._waiting.put(None)

    def until(self, text: str) -> str:
        """The first line that holds the text; fails when the command ends before."""
        ends = 0
        while True:
            line = self._waiting.get(timeout=SECONDS)
            if line is None:
                ends += 1
                assert ends < 2, f"{text!r} was never said:\n{''.join(self.lines)}"
            elif text in line:
                return line

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def exit_code(self) -> int:
        code = self.process.wait(SECONDS)
        for reader in self._readers:
            reader.join(SECONDS)
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for reader in self._readers:
            reader.join(SECONDS)
        for stream in (self.process.stderr, self.process.stdout):
            if stream is not None:
                stream.close()


@pytest.fixture
def running(folder: Path) -> Iterator[Callable[..., Running]]:
    """Starts commands, and ends those that are left."""
    started: list[Running] = []

    def start(*args: str) -> Running:
        started.append(Running(folder, args))
        return started[-1]

    yield start
    for each in started:
        each.close()


def in_app(app: App, question: Callable[[], Awaitable[R]]) -> R:
    """Ask something inside `async with app`."""

    async def run() -> R:
        async with app:
            return await question()

    return anyio.run(run)
