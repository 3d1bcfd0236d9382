"""taskweave dev and init: a project that runs as it is written, and a worker that follows its files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from command_line import SECONDS, Running, environment, in_app

from taskweave.cli.dev import changed, snapshot
from taskweave.cli.init import FILES

Start = Callable[..., Running]


def test_dev_starts_again_when_a_file_changes_and_drains_on_a_signal(running: Start, loaded: Any, folder: Path) -> None:
    dev = running("dev", "jobsapp.py")
    dev.until("started")
    source = folder / "jobsapp.py"
    source.write_text(source.read_text().replace("saying hello", "saying something else"))
    dev.until("jobsapp.py changed; starting again")
    dev.until("started")

    async def run() -> None:
        handle = await loaded.hello.enqueue("x")
        assert await handle.result(timeout="30s") == "hello x"

    in_app(loaded.app, run)
    dev.until("saying something else")
    dev.signal(signal.SIGINT)
    assert dev.exit_code() == 0
    assert "stopped" in "".join(dev.lines).splitlines()[-1]


def test_dev_waits_for_a_change_when_the_app_is_broken(running: Start, folder: Path) -> None:
    source = folder / "jobsapp.py"
    whole = source.read_text()
    source.write_text("def (\n")
    dev = running("dev", "jobsapp.py")
    assert "TW1105" in dev.until("error:")
    dev.until("waiting for a change")
    source.write_text(whole)
    dev.until("started")
    dev.signal(signal.SIGTERM)
    assert dev.exit_code() == 0


def test_the_worker_of_a_killed_dev_ends_by_itself(running: Start, folder: Path) -> None:
    dev = running("dev", "jobsapp.py")
    dev.until("started")
    dev.signal(signal.SIGKILL)
    dev.until("stopped")  # said by the worker, which outlives it for a moment


def test_only_sources_are_watched(tmp_path: Path) -> None:
    for name in ("a.py", "b.txt", ".hidden/c.py", "__pycache__/d.py", "deep/er/e.py", "venv/f.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    before = snapshot(tmp_path)
    assert {os.path.relpath(path, tmp_path) for path in before} == {"a.py", "deep/er/e.py"}
    (tmp_path / "a.py").write_text("changed")
    (tmp_path / "deep/er/e.py").unlink()
    (tmp_path / "new.py").write_text("")
    names = [os.path.relpath(path, tmp_path) for path in changed(before, snapshot(tmp_path))]
    assert names == ["a.py", "deep/er/e.py", "new.py"]


@pytest.mark.proves(80)
def test_init_writes_a_project_that_runs(running: Start, invoke: Callable[..., Result], folder: Path) -> None:
    result = invoke("init", "shop")
    assert result.exit_code == 0, result.output
    project = folder / "shop"
    assert {path.name for path in project.iterdir()} == set(FILES)
    worker = running("dev", "shop/tasks.py", "--store", f"sqlite:///{project}/jobs.db")
    worker.until("started")
    client = subprocess.run(
        [sys.executable, "enqueue.py"],
        cwd=project,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert client.returncode == 0, client.stderr
    results = [line.split(maxsplit=1)[1] for line in client.stdout.splitlines()]
    assert results[0] == "hello world"
    assert len(results[1]) == 64
    assert results[2] == "2262"
    worker.signal(signal.SIGTERM)
    assert worker.exit_code() == 0


def test_init_never_touches_a_file_that_is_there(invoke: Callable[..., Result], folder: Path) -> None:
    (folder / "tasks.py").write_text("mine")
    result = invoke("init")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: [TW1201]")
    assert (folder / "tasks.py").read_text() == "mine"
    assert not (folder / "enqueue.py").exists()


def test_init_can_only_say_what_it_would_write(invoke: Callable[..., Result], folder: Path) -> None:
    assert invoke("init", "shop", "--dry-run").exit_code == 0
    assert not (folder / "shop").exists()
