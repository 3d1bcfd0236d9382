"""The demo on real files: it ends with a table, goes on after any interruption, and does nothing twice."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from command_line import SECONDS, Running, environment

Start = Callable[..., Running]
Command = Callable[..., subprocess.CompletedProcess[str]]
BOTH = pytest.mark.parametrize("backend", ["asyncio", "trio"])

FILES = 30
BAD = 2
JOBS = 3 * FILES


@pytest.fixture
def tree(folder: Path) -> Path:
    """A small source tree; two of its files do not parse."""
    tree = folder / "tree"
    (tree / "deep").mkdir(parents=True)
    for number in range(FILES - BAD):
        text = "".join(f"def f{line}(x):\n    return x + {line}\n" for line in range(20 * (number + 1)))
        (tree / "deep" / f"good{number:02}.py").write_text(text)
    for number in range(BAD):
        (tree / f"bad{number}.py").write_text("print 'two'\n")
    (tree / "notes.txt").write_text("no source")
    return tree


def summary(result: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert result.returncode == 0, result.stderr
    document: dict[str, Any] = json.loads(result.stdout)
    return document


@BOTH
def test_it_runs_in_all_modes_and_tries_again_what_does_not_parse(command: Command, tree: Path, backend: str) -> None:
    done = summary(command("demo", tree, "--json", "--backend", backend))
    assert (done["jobs"], done["done_in_this_run"], done["succeeded"]) == (JOBS, JOBS, JOBS - BAD)
    assert [Path(failed["file"]).name for failed in done["failed"]] == ["bad0.py", "bad1.py"]
    assert {failed["attempts"] for failed in done["failed"]} == {3}
    assert done["retries"] == 2 * BAD
    assert all("SyntaxError" in failed["error"] for failed in done["failed"])
    assert {"hash", "compress", "parse"} in [set(each["seconds"]) for each in done["slowest"]]
    listed = command("job", "list", "--store", done["store"], "--status", "failed", "--json")
    assert {job["id"] for job in json.loads(listed.stdout)["jobs"]} == {failed["id"] for failed in done["failed"]}
    again = summary(command("demo", tree, "--json", "--backend", backend))
    assert (again["jobs"], again["done_in_this_run"], again["retries"]) == (JOBS, 0, 2 * BAD)


@BOTH
def test_after_an_interruption_it_goes_on_where_it_was(
    running: Start, command: Command, tree: Path, backend: str
) -> None:
    first = running("demo", tree, "--backend", backend, "--concurrency", "2")
    first.until(f"/{JOBS} jobs")
    first.signal(signal.SIGINT)
    assert first.exit_code() == 130, first.lines
    assert "Run the same command to go on" in "".join(first.lines)
    rest = summary(command("demo", tree, "--json", "--backend", backend))
    assert rest["jobs"] == JOBS
    assert 0 < rest["done_in_this_run"] < JOBS
    assert (rest["succeeded"], len(rest["failed"]), rest["retries"]) == (JOBS - BAD, BAD, 2 * BAD)


@BOTH
def test_after_a_kill_it_goes_on_where_it_was(running: Start, command: Command, tree: Path, backend: str) -> None:
    first = running("demo", tree, "--backend", backend, "--concurrency", "8")
    first.until(f"/{JOBS} jobs")
    first.signal(signal.SIGKILL)
    assert first.exit_code() == -signal.SIGKILL
    rest = summary(command("demo", tree, "--json", "--backend", backend))
    assert rest["jobs"] == JOBS
    assert rest["done_in_this_run"] < JOBS
    assert (rest["succeeded"], len(rest["failed"])) == (JOBS - BAD, BAD)


def test_its_end_is_a_table_with_the_way_to_the_jobs(command: Command, tree: Path) -> None:
    result = command("demo", tree)
    assert result.returncode == 0, result.stderr
    for text in (
        "Slowest files under",
        "Dead letters: 2 jobs",
        f"{JOBS - BAD} jobs succeeded, 2 failed, 4 retries",
        "jobs/s",
        "taskweave job list --store sqlite:///taskweave-demo.db --status failed",
    ):
        assert text in result.stdout
    assert "\x1b" not in result.stdout


def test_a_terminal_sees_a_bar_for_each_stage(folder: Path, tree: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "taskweave", "demo", str(tree)],
        cwd=folder,
        env={**environment(), "TERM": "xterm"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        close_fds=True,
    )
    os.close(theirs)
    seen = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # how Linux says that the other side of a terminal is closed
            break
        if not part:
            break
        seen += part
    os.close(ours)
    assert process.wait(SECONDS) == 0, seen
    text = seen.decode()
    for stage in ("hash", "compress", "parse"):
        assert stage in text
    assert f"{FILES}/{FILES}" in text
    assert "Slowest files under" in text


def test_a_full_disk_ends_it_with_one_clear_line(folder: Path, tree: Path, command: Command) -> None:
    small = folder / "small"
    small.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(small)], capture_output=True, check=False
    )
    if mount.returncode:
        pytest.skip("no right to mount a small disk here")
    try:
        result = command("demo", tree, "--store", f"sqlite:///{small}/demo.db")
        assert result.returncode == 1
        assert result.stderr.splitlines()[-1].startswith("error: [TW1402]")
        assert "Traceback" not in result.stderr
        checked = command("doctor", "--store", f"sqlite:///{small}/demo.db")
        assert "problem  disk" in checked.stdout
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_limit_a_change_and_a_fresh_start(command: Command, tree: Path) -> None:
    assert summary(command("demo", tree, "--json", "--limit", "3"))["jobs"] == 9
    assert summary(command("demo", tree, "--json", "--limit", "5"))["done_in_this_run"] == 6
    (tree / "bad0.py").write_text("print('three, and it parses')\n")
    assert summary(command("demo", tree, "--json", "--limit", "5"))["done_in_this_run"] == 3
    assert summary(command("demo", tree, "--json", "--limit", "5", "--fresh"))["done_in_this_run"] == 15


def test_a_folder_without_sources_is_refused(invoke: Callable[..., Result], folder: Path) -> None:
    (folder / "empty").mkdir()
    result = invoke("demo", "empty")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: [TW1201] PATH")
    assert not (folder / "taskweave-demo.db").exists()


def test_a_bench_says_its_figures(invoke: Callable[..., Result]) -> None:
    result = invoke("bench", "--jobs", "200", "--rounds", "1", "--loop", "asyncio", "--only", "r", "--json")
    assert result.exit_code == 0, result.output
    figures = {(each["measure"], each["store"]): each for each in json.loads(result.stdout)["figures"]}
    stores = ("memory", "sqlite", "sqlite-full")
    assert {(measure, store) for measure in ("floor", "drain") for store in stores} <= set(figures)
    assert all(figures["drain", store]["jobs_per_second"][0] > 0 for store in stores)
    table = invoke("bench", "--jobs", "100", "--rounds", "1", "--loop", "asyncio", "--only", "enqueue")
    assert table.exit_code == 0
    assert "bulk per second" in table.output
