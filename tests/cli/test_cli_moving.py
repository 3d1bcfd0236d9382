"""store copy, backup and restore: everything arrives as it was, twice is once, and a difference is named."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import stat
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import anyio
import pytest
from click.testing import Result
from every_kind import claim, fill, spec

from taskweave import connect
from taskweave.abc import TaskStore
from taskweave.cli.moving_output import progress
from taskweave.core.job import State
from taskweave.core.unique import UniqueKey
from taskweave.core.verbs import CancelJobs, Count, DeleteJobs, Enqueue, Export, Find, Load, Restore
from taskweave.exceptions import StoreUnavailable
from taskweave.stores.sqlite import SQLiteTaskStore

Invoke = Callable[..., Result]
R = TypeVar("R")
A, B = "sqlite:///a.db", "sqlite:///b.db"


def within(url: str, work: Callable[[TaskStore], Awaitable[R]], **options: Any) -> R:
    async def run() -> R:
        async with connect.connect(url, **options) as store:
            return await work(store)

    return anyio.run(run)


def outcome(result: Result) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(result.stdout)
    return document


@pytest.fixture
def filled(folder: Path) -> int:
    """Store A with a job of every kind; how many there are."""

    async def make(store: TaskStore) -> int:
        await fill(store)
        return sum(queue.count(*State) for queue in (await store.apply(Count())).queues)

    return within(A, make, aging="10s")


# --- copy ---------------------------------------------------------------------------------------------------------


@pytest.mark.proves(26)
def test_a_copy_means_the_same(invoke: Invoke, filled: int) -> None:
    result = invoke("store", "copy", A, B, "--json")
    assert result.exit_code == 0, result.output
    document = outcome(result)
    assert (document["stored"], document["existing"], document["differences"]) == (filled, 0, 0)
    assert document["source"] == document["target"]
    one, other = (within(url, lambda store: store.apply(Export())) for url in (A, B))
    assert [job.id for job in one.jobs] == [job.id for job in other.jobs]
    assert (other.paused, other.aging_us) == (("paused",), 10_000_000) == (one.paused, one.aging_us)
    assert invoke("store", "check", "--store", B).exit_code == 0


def test_a_copy_goes_on_where_it_was_cut_off(invoke: Invoke, filled: int) -> None:
    async def some(store: TaskStore) -> Any:
        return (await store.apply(Export(limit=5))).jobs

    jobs = within(A, some)
    within(B, lambda store: store.apply(Restore(jobs)))
    for existing in (5, filled):
        document = outcome(invoke("store", "copy", A, B, "--json"))
        assert (document["stored"], document["existing"]) == (filled - existing, existing)
        assert document["equal"]


def test_a_copy_whose_store_failed_goes_on_when_it_is_run_again(
    invoke: Invoke, filled: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = tuple([spec(f"many{number}") for number in range(1_200)])
    within(A, lambda store: store.apply(Enqueue(many)))
    real, restores = SQLiteTaskStore.apply, itertools.count()

    async def fails(self: SQLiteTaskStore, op: Any, **rest: Any) -> Any:
        if isinstance(op, Restore) and next(restores) == 2:
            raise StoreUnavailable(self.url, "it went away")
        return await real(self, op, **rest)

    monkeypatch.setattr(SQLiteTaskStore, "apply", fails)
    result = invoke("store", "copy", A, B)
    assert (result.exit_code, "TW1401" in result.stderr) == (1, True)
    document = outcome(invoke("store", "copy", A, B, "--json"))
    assert (document["existing"], document["stored"]) == (1_000, filled + 200)
    assert document["equal"]


def test_a_dry_run_makes_nothing(invoke: Invoke, folder: Path, filled: int) -> None:
    document = outcome(invoke("store", "copy", A, B, "--dry-run", "--json"))
    assert (document["source"]["jobs"], document["existing"], document["target_exists"]) == (filled, 0, False)
    assert not (folder / "b.db").exists()
    invoke("store", "copy", A, B)
    result = invoke("store", "copy", A, B, "--dry-run")
    assert f"{filled} of them there already" in result.stdout
    assert "nothing was changed" in result.stdout


def test_running_jobs_are_refused_or_given_back(invoke: Invoke, folder: Path, filled: int) -> None:
    leases = within(A, lambda store: claim(store, 2, "q"))
    result = invoke("store", "copy", A, B)
    assert (result.exit_code, "2 jobs are running" in result.stderr) == (1, True)
    assert not (folder / "b.db").exists()
    document = outcome(invoke("store", "copy", A, B, "--running", "release", "--json"))
    assert (document["released"], document["equal"], document["stored"]) == (2, True, filled)
    jobs = within(B, lambda store: store.apply(Load(tuple([lease.id for lease in leases]))))
    assert [job and (job.state, job.life.attempt, job.life.fence) for job in jobs] == [
        (State.READY, 0, lease.fence + 1) for lease in leases
    ]


def test_a_job_that_differs_is_named(invoke: Invoke, filled: int) -> None:
    invoke("store", "copy", A, B)
    within(B, lambda store: store.apply(CancelJobs(("later",))))
    result = invoke("store", "copy", A, B)
    assert result.exit_code == 1
    assert "1 of 16 jobs differ" in result.stdout
    assert "the first: job later: it is cancelled, and was scheduled" in result.stdout


def test_another_order_is_a_difference(invoke: Invoke, filled: int) -> None:
    invoke("store", "copy", A, B)
    within(B, lambda store: store.apply(DeleteJobs(("ready",))))
    result = invoke("store", "copy", A, B)
    assert result.exit_code == 1
    assert "it comes too early in the order" in result.stdout


def test_a_taken_key_is_told_with_its_holder(invoke: Invoke, filled: int) -> None:
    within(B, lambda store: store.apply(Enqueue((spec("mine", unique=UniqueKey("k")),))))
    result = invoke("store", "copy", A, B)
    assert result.exit_code == 1
    assert "not stored: unique, its unique key is held by mine" in result.stdout
    assert "the first: job unique: it is not there" in result.stdout


def test_what_the_target_has_besides_is_no_matter(invoke: Invoke, filled: int) -> None:
    within(B, lambda store: store.apply(Enqueue((spec("mine"),))))
    assert invoke("store", "copy", A, B).exit_code == 0
    assert len(within(B, lambda store: store.apply(Find())).jobs) == filled + 1


def test_a_store_is_not_copied_onto_itself(invoke: Invoke, filled: int) -> None:
    result = invoke("store", "copy", A, A)
    assert result.exit_code == 1
    assert "both the store to copy and the one to copy to" in result.stderr


def test_stores_that_are_not_there_are_not_made(invoke: Invoke, folder: Path) -> None:
    for arguments in (("store", "copy", A, B), ("backup", A, "file")):
        result = invoke(*arguments)
        assert result.exit_code == 1
        assert "TW1405" in result.stderr
    assert invoke("store", "copy", "memory://", B).exit_code == 1
    assert os.listdir(folder) == ["jobsapp.py"]


# --- backup and restore -------------------------------------------------------------------------------------------


@pytest.mark.proves(131)
@pytest.mark.parametrize("name", ["jobs.jsonl", "jobs.jsonl.gz"])
def test_a_backup_is_restored_as_it_was(invoke: Invoke, folder: Path, filled: int, name: str) -> None:
    written = outcome(invoke("backup", A, name, "--json"))
    assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    assert written["jobs"] == filled
    assert invoke("restore", name, B, "--dry-run").exit_code == 0
    assert not (folder / "b.db").exists()
    restored = outcome(invoke("restore", name, B, "--json"))
    assert (restored["stored"], restored["equal"]) == (filled, True)
    assert restored["target"] == {each: written[each] for each in ("jobs", "checksum", "counts")}
    compared = outcome(invoke("store", "copy", A, B, "--json"))
    assert (compared["equal"], compared["stored"]) == (True, 0)
    there = within(B, lambda store: store.apply(Export(limit=1)))
    assert (there.paused, there.aging_us) == (("paused",), 10_000_000)
    again = outcome(invoke("restore", name, B, "--json"))
    assert (again["stored"], again["existing"], again["equal"]) == (0, filled, True)


def test_a_file_is_replaced_only_when_told_to(invoke: Invoke, folder: Path, filled: int) -> None:
    (folder / "file").write_text("precious")
    assert invoke("backup", A, "file").exit_code == 1
    assert (folder / "file").read_text() == "precious"
    assert invoke("backup", A, "file", "--overwrite").exit_code == 0
    assert "taskweave backup" in (folder / "file").read_text()


def test_a_folder_that_is_not_there_is_one_line(invoke: Invoke, filled: int) -> None:
    result = invoke("backup", A, "nowhere/file")
    assert (result.exit_code, "cannot be written" in result.stderr) == (1, True)
    assert "Traceback" not in result.output


def test_a_failed_backup_leaves_nothing(
    invoke: Invoke, folder: Path, filled: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = sorted(os.listdir(folder))
    monkeypatch.setattr("os.fsync", full)
    assert invoke("backup", A, "file.gz").exit_code == 1
    assert [name for name in sorted(os.listdir(folder)) if not name.startswith("a.db")] == [
        name for name in before if not name.startswith("a.db")
    ]


def damaged(lines: list[bytes]) -> dict[str, bytes]:
    """Ways in which a file of these lines goes wrong."""
    whole = b"".join(lines)
    changed = lines[3].replace(b'"priority":', b'"priority":1')
    return {
        "empty": b"",
        "another file": b"hello\n",
        "another document": b'{"kind": "something"}\n' * 3,
        "a newer format": whole.replace(b'"format": 1', b'"format": 2', 1),
        "a changed job": b"".join([*lines[:3], changed, *lines[4:]]),
        "a changed header": whole.replace(b'"paused"]', b'"payroll"]', 1),
        "a damaged header": whole.replace(b'"aging_us": 10000000', b'"aging_us": "x"', 1),
        "a job removed": b"".join([*lines[:3], *lines[4:]]),
        "a job twice": b"".join([*lines[:3], lines[3], *lines[3:]]),
        "jobs exchanged": b"".join([*lines[:3], lines[4], lines[3], *lines[5:]]),
        "no trailer": b"".join(lines[:-1]),
        "only the header": lines[0],
        "cut in the middle": whole[: len(whole) // 2],
        "cut at the end": whole[:-1],
        "more after the end": whole + b"{}\n",
        "no job": b"".join([*lines[:3], b'{"a": 1}\n', *lines[4:]]),
        "not ASCII": b"".join([*lines[:3], "é\n".encode(), *lines[4:]]),
        "nonsense in a job": b"".join([*lines[:3], lines[3].replace(b'"fence":', b'"fence":-'), *lines[4:]]),
        "zipped and cut": gzip.compress(whole)[:-9],
        "zipped and changed": gzip.compress(whole)[:200] + b"xxxx" + gzip.compress(whole)[204:],
    }


@pytest.mark.proves(131)
def test_a_damaged_file_is_refused_before_anything_is_stored(invoke: Invoke, folder: Path, filled: int) -> None:
    invoke("backup", A, "good")
    lines = (folder / "good").read_bytes().splitlines(keepends=True)
    for name, content in damaged(lines).items():
        (folder / "bad").write_bytes(content)
        result = invoke("restore", "bad", B)
        assert result.exit_code == 1, name
        assert "TW1212" in result.stderr, (name, result.stderr)
        assert "Traceback" not in result.output
        assert not (folder / "b.db").exists(), name


def test_a_restored_job_that_went_on_since_is_named(invoke: Invoke, filled: int) -> None:
    invoke("backup", A, "file")
    within(A, lambda store: store.apply(CancelJobs(("later",))))
    result = invoke("restore", "file", A)
    assert result.exit_code == 1
    assert "the first: job later: it is cancelled, and was scheduled" in result.stdout


# --- what is said on the way --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("terminal", "said"), [(True, "\r4 of 10 copied\r10 of 10 copied\n"), (False, "")])
def test_progress_is_one_line_of_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, terminal: bool, said: str
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    with progress("copied", 10) as told:
        told(4)
        told(6)
    assert capsys.readouterr().err == said


def test_the_demo_and_the_store_commands_say_no_password(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even of an address that cannot be reached or is none."""
    for url in (
        "postgres://u:secret@127.0.0.1:1/d",
        "mysql://u:secret@127.0.0.1:1/d",
        "redis://u:secret@127.0.0.1:1/0",
    ):
        for command in (
            ("store", "init", "--store", url),
            ("store", "check", "--store", url),
            ("store", "sql", "--store", url),
            ("store", "sql", "--roles", "--store", url),
            ("store", "copy", url, B),
            ("store", "copy", url + "?color=red", B),
            ("backup", url, "file"),
        ):
            result = invoke(*command)
            assert "secret" not in result.output, command
            assert "Traceback" not in result.output, command
