"""The SQLite store on real files: opening, refusing, waking, closing, and staying whole under cancellation."""

from __future__ import annotations

import os
import random
import sqlite3
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from taskweave.abc import Listens
from taskweave.core.job import Spec, State, Verb
from taskweave.core.verbs import (
    CancelJobs,
    Count,
    Enqueue,
    Exchange,
    Find,
    Load,
    Maintain,
    Op,
    PauseQueue,
    Renew,
    Settlement,
)
from taskweave.exceptions import (
    InvalidStoreUrl,
    InvalidValue,
    NotAStore,
    NotOpen,
    SchemaTooNew,
    StoreFull,
    StoreMissing,
    StoreReadOnly,
    StoreUnavailable,
)
from taskweave.stores import sqlite as sqlite_module
from taskweave.stores._sqlite import connection as connection_module
from taskweave.stores._sqlite.checkpoint import WAL_BYTES_MAX, wal_bytes
from taskweave.stores._sqlite.schema import VERSION
from taskweave.stores.sqlite import SQLiteTaskStore, file_of

pytestmark = pytest.mark.anyio

LEASE_US = 30_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        if "taskweave" in thread.name or "_connection_worker_thread" in thread.name:
            thread.join(5)  # the driver's thread ends a moment after its connection is closed
            assert not thread.is_alive(), thread.name


def job(id: str, **fields: Any) -> Spec:
    return Spec(id, **({"task": "noop", "queue": "default", "payload": b"[]"} | fields))


def claim(claim_id: str, want: int = 10, **fields: Any) -> Exchange:
    return Exchange("m", claim_id, want, ("default",), ("noop",), LEASE_US, **fields)


# --- opening ------------------------------------------------------------------------------------------------------


@pytest.mark.proves(132)
async def test_a_new_file_is_private_in_wal_mode_and_needs_no_configuration(path: Path) -> None:
    async with SQLiteTaskStore(path) as store:
        assert isinstance(store, Listens)
        facts = await store.facts()
        assert await store.check() == []
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (facts["journal_mode"], facts["synchronous"], facts["schema_version"]) == ("wal", "NORMAL", VERSION)
    assert facts["wal_reset_bug"] == (sqlite3.sqlite_version_info < (3, 51, 3))
    assert facts["path"] == str(path)


async def test_full_synchronous_is_what_every_connection_gets(path: Path) -> None:
    async with SQLiteTaskStore(path, synchronous="FULL") as store, store.another() as second:
        assert (await store.facts())["synchronous"] == (await second.facts())["synchronous"] == "FULL"
    with pytest.raises(InvalidValue, match="synchronous"):
        SQLiteTaskStore(path, synchronous="OFF")  # type: ignore[arg-type]


async def test_jobs_stay_when_the_store_is_closed_and_opened_again(path: Path) -> None:
    async with SQLiteTaskStore(path) as store:
        await store.apply(Enqueue((job("a"), job("b", delay_us=5_000_000))))
        await store.apply(PauseQueue("default"))
    async with SQLiteTaskStore(f"sqlite:///{path}") as store:
        assert [found.id for found in (await store.apply(Find())).jobs] == ["b", "a"]
        (queue,) = (await store.apply(Count())).queues
        assert (queue.paused, queue.count(State.READY), queue.count(State.SCHEDULED)) == (True, 1, 1)


async def test_a_store_must_be_open(path: Path) -> None:
    store = SQLiteTaskStore(path)
    with pytest.raises(NotOpen):
        await store.apply(Count())
    with pytest.raises(NotOpen):
        async with store.listen(()):
            pass
    assert not path.exists()


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("jobs.db", "jobs.db"),
        ("sqlite:///jobs.db", "jobs.db"),
        ("sqlite:////var/jobs.db", "/var/jobs.db"),
        ("sqlite:///a%20b.db", "a b.db"),
    ],
)
def test_addresses(address: str, expected: str) -> None:
    assert file_of(address) == expected


@pytest.mark.parametrize("address", ["", "sqlite://host/jobs.db", "sqlite:///", ":memory:", "a\0b", "folder/"])
def test_addresses_that_name_no_file(address: str) -> None:
    with pytest.raises(InvalidStoreUrl):
        file_of(address)


def foreign(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE users (name)")
    connection.close()


def of_the_future(path: Path) -> None:
    anyio.run(opened_once, path)
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version={VERSION + 1}")
    connection.close()


async def opened_once(path: Path) -> None:
    async with SQLiteTaskStore(path):
        pass


def linked(path: Path) -> None:
    path.symlink_to(path.parent / "elsewhere.db")


BAD_FILES: dict[str, tuple[Any, type[Exception]]] = {
    "not a database": (lambda path: path.write_bytes(b"not a database, but long enough" * 99), NotAStore),
    "a foreign database": (foreign, NotAStore),
    "a newer schema": (of_the_future, SchemaTooNew),
    "a symbolic link": (linked, NotAStore),
    "a folder": (Path.mkdir, NotAStore),
    "a file in place of the folder": (lambda path: path.parent.rmdir() or path.parent.write_text(""), StoreMissing),
    "a missing folder": (lambda path: path.parent.rmdir(), StoreMissing),
}


@pytest.mark.parametrize("kind", BAD_FILES)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_what_is_no_store_is_refused_and_left_as_it_was(tmp_path: Path, kind: str, backend: str) -> None:
    spoil, error = BAD_FILES[kind]
    path = tmp_path / "folder" / "jobs.db"
    path.parent.mkdir()
    spoil(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(error) as caught:
        anyio.run(opened_once, path, backend=backend)
    assert str(path) in str(caught.value)
    assert before == (path.read_bytes() if path.is_file() else None)


async def test_a_missing_file_is_not_made_where_that_was_not_asked_for(path: Path) -> None:
    for options in ({"create": False}, {"read_only": True}):
        with pytest.raises(StoreMissing):
            async with SQLiteTaskStore(path, **options):  # type: ignore[arg-type]
                pass
        assert not path.exists()


async def test_a_read_only_store_reads_and_says_why_it_does_not_write(path: Path) -> None:
    async with SQLiteTaskStore(path) as store:
        await store.apply(Enqueue((job("a"),)))
        async with SQLiteTaskStore(path, read_only=True) as reader:
            assert (await reader.apply(Load(("a",))))[0] is not None
            with pytest.raises(StoreReadOnly):
                await reader.apply(Enqueue((job("b"),)))


async def test_a_file_that_refuses_writes_is_refused_when_it_is_opened(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may write anything, so the read-only file is made by opening it without the right to write."""
    await opened_once(path)
    real = sqlite3.connect

    def without_rights(address: str, **options: Any) -> Any:
        return real(address.replace("mode=rw", "mode=ro"), **options)

    monkeypatch.setattr(connection_module.sqlite3, "connect", without_rights)
    with pytest.raises(StoreReadOnly) as caught:
        await opened_once(path)
    assert isinstance(caught.value.__cause__, sqlite3.OperationalError)


# --- trouble while it is open -------------------------------------------------------------------------------------


async def test_a_full_file_refuses_the_batch_loses_nothing_and_recovers(path: Path) -> None:
    async with SQLiteTaskStore(path) as store:
        await store.apply(Enqueue((job("kept"),)))
        await pragma(store, "PRAGMA max_page_count=40")
        big = tuple([job(f"big{number}", payload=bytes(10_000)) for number in range(50)])
        with pytest.raises(StoreFull) as caught:
            await store.apply(Enqueue(big))
        assert (caught.value.applied, caught.value.transient) == ("no", True)
        assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
        assert [found.id for found in (await store.apply(Find())).jobs] == ["kept"]
        await pragma(store, "PRAGMA max_page_count=1000000")
        assert len(await store.apply(Enqueue(big))) == 50
        assert await store.check() == []


async def pragma(store: SQLiteTaskStore, sql: str) -> Any:
    assert store._opened is not None
    return await store._opened.write(lambda connection: connection.execute(sql).fetchone())


async def test_a_lock_held_too_long_is_a_typed_error_and_passes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "TURNS_MAX", 5)
    async with SQLiteTaskStore(path) as store:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable) as caught:
            await store.apply(Enqueue((job("a"),)))
        assert caught.value.applied == "no"
        assert (await store.apply(Count())).queues == ()  # a reader does not wait for a writer
        other.execute("ROLLBACK")
        other.close()
        await store.apply(Enqueue((job("a"),)))


async def test_past_its_deadline_a_write_is_unknown_and_is_resent_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SQLiteTaskStore(path) as store:
        monkeypatch.setattr(sqlite_module, "CALL_DEADLINE_S", 0.05)
        other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable) as caught:
            await store.apply(Enqueue((job("a"),)))
        assert caught.value.applied == "unknown"
        other.execute("ROLLBACK")
        other.close()
        monkeypatch.setattr(sqlite_module, "CALL_DEADLINE_S", 10.0)
        await store.apply(Enqueue((job("a"),)))
        assert len((await store.apply(Find())).jobs) == 1


async def test_the_check_finds_what_someone_did_to_the_file(path: Path) -> None:
    async with SQLiteTaskStore(path) as store:
        await store.apply(Enqueue((job("a"), job("b"), job("c"))))
        await store.apply(claim("c1", 1))
        for spoil, word, mend in [
            (
                "DROP INDEX job_lease",
                "job_lease",
                "CREATE INDEX job_lease ON job (lease_until, seq, queue) WHERE state = 2",
            ),
            (
                "UPDATE job SET lease_until = NULL WHERE id = 'a'",
                "lease",
                "UPDATE job SET lease_until = 1 WHERE id = 'a'",
            ),
            ("UPDATE job SET rank_a = 7 WHERE id = 'b'", "rank", "UPDATE job SET rank_a = 0 WHERE id = 'b'"),
            ("UPDATE job SET chore = 1 WHERE id = 'c'", "chore", "UPDATE job SET chore = NULL WHERE id = 'c'"),
            ("UPDATE job SET life_rest = '{' WHERE id = 'c'", "read", "UPDATE job SET life_rest = NULL WHERE id = 'c'"),
            ("UPDATE meta SET jobs = 9", "counts", "UPDATE meta SET jobs = 3"),
            ("UPDATE meta SET next_seq = 2", "next seq", "UPDATE meta SET next_seq = 4"),
        ]:
            await pragma(store, spoil)
            problems = await store.check()
            assert any(word in problem for problem in problems), f"{spoil}: {problems}"
            await pragma(store, mend)
            assert await store.check() == [], mend


async def test_the_log_stays_bounded(path: Path) -> None:
    async with SQLiteTaskStore(path) as store:
        most = 0
        for batch in range(60):
            specs = [job(f"{batch}-{number}", payload=bytes(1_000)) for number in range(1_000)]
            await store.apply(Enqueue(tuple(specs)))
            most = max(most, wal_bytes(str(path)))
        assert 0 < most < WAL_BYTES_MAX + (8 << 20)
        await store.apply(Maintain(LEASE_US))
        assert wal_bytes(str(path)) < 8 << 20


# --- wake-ups -----------------------------------------------------------------------------------------------------


async def test_what_changes_nothing_writes_nothing(path: Path) -> None:
    """Else two idle workers would wake each other for ever."""
    async with SQLiteTaskStore(path) as store:
        await store.apply(Enqueue((job("a", delay_us=60_000_000),)))
        await store.apply(Maintain(LEASE_US))  # the floor
        watcher = sqlite3.connect(path)
        version = watcher.execute("PRAGMA data_version").fetchone()
        size = wal_bytes(str(path))
        idle: list[Op[Any]] = [
            claim("c1"),
            claim("c2", 0),
            Renew("m", (), LEASE_US),
            Maintain(LEASE_US),
            Count(),
            Find(),
        ]
        for op in idle:
            await store.apply(op)
            assert watcher.execute("PRAGMA data_version").fetchone() == version, op
        assert wal_bytes(str(path)) == size
        watcher.close()


async def test_own_writes_wake_listeners_at_once(path: Path) -> None:
    async with SQLiteTaskStore(path) as store, store.listen(["default"]) as workers, store.listen([]) as waiters:
        for op, woken in [
            (Enqueue((job("a"),)), workers),
            (CancelJobs(("a",)), waiters),
        ]:
            await quiet(workers, waiters)
            await store.apply(op)
            with anyio.fail_after(5):
                await woken.wait()


async def quiet(*listeners: Any) -> None:
    """Until nobody has anything to tell any more."""
    for listener in listeners:
        while True:
            with anyio.move_on_after(0.05) as scope:
                await listener.wait()
            if scope.cancelled_caught:
                break


async def test_a_store_on_the_same_file_wakes_listeners_too(path: Path) -> None:
    async with (
        SQLiteTaskStore(path) as store,
        SQLiteTaskStore(path) as foreign_store,
        store.listen(["default"]) as workers,
    ):
        await quiet(workers)
        await foreign_store.apply(Enqueue((job("a"),)))
        with anyio.fail_after(5):
            await workers.wait()


async def test_nobody_listens_nobody_watches(path: Path) -> None:
    def watching() -> int:
        return sum(thread.name == "taskweave-sqlite-watch" for thread in threading.enumerate())

    async with SQLiteTaskStore(path) as store:
        assert watching() == 0
        async with store.listen([]), store.listen(["default"]):
            assert watching() == 1
        assert watching() == 0


# --- cancellation -------------------------------------------------------------------------------------------------


async def test_a_storm_of_cancellations_leaves_no_open_transaction_and_tells_no_lie(path: Path) -> None:
    dice = random.Random(3)
    acknowledged: set[str] = set()

    async def caller(store: SQLiteTaskStore, number: int) -> None:
        with anyio.move_on_after(dice.uniform(0, 0.02)):
            await store.apply(Enqueue((job(f"{number}"),)))
            acknowledged.add(f"{number}")
            answer = await store.apply(claim(f"c{number}", 1))
            ends = tuple([Settlement(one.id, one.fence, Verb.SUCCEED) for one in answer.claimed])
            await store.apply(claim(f"d{number}", 0, settle=ends))
            await store.apply(Count())

    async with SQLiteTaskStore(path) as store:
        async with anyio.create_task_group() as group:
            for number in range(200):
                group.start_soon(caller, store, number)
        assert store._opened is not None
        assert store._opened._writer is not None
        assert not store._opened._writer.in_transaction
        found = await store.apply(Load(tuple(str(number) for number in range(200))))
        stored = {one.id for one in found if one is not None}
        assert acknowledged <= stored  # a cancelled caller may not know, but an answer is never untrue
        assert await store.check() == []


async def test_a_write_is_finished_though_its_caller_is_cancelled(path: Path) -> None:
    async with SQLiteTaskStore(path) as store:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await store.apply(Enqueue((job("a"),)))
        assert (await store.apply(Load(("a",))))[0] is not None


async def test_a_change_of_aging_rewrites_the_order_in_batches(path: Path) -> None:
    async with SQLiteTaskStore(path) as store:
        await store.apply(Enqueue((job("old"),)), at=1_000_000)
        await store.apply(Enqueue((job("new", priority=1),)), at=9_000_000)
        assert [one.id for one in (await store.apply(claim("c1", 1), at=9_000_000)).claimed] == ["new"]
        await store.apply(Enqueue((job("newer", priority=1),)), at=9_000_000)
    async with SQLiteTaskStore(path, aging="1s") as store:
        answers = [await store.apply(Maintain(LEASE_US, 2), at=9_000_000) for _ in range(3)]
        assert [answer.reranked for answer in answers] == [2, 1, 0]
        assert [answer.more for answer in answers] == [True, False, False]
        assert await store.check() == []
        claimed = (await store.apply(claim("c2", 2), at=9_000_000)).claimed
        assert [one.id for one in claimed] == ["old", "newer"]
    assert os.path.exists(path)


@pytest.mark.parametrize("how", ["removed", "replaced"])
async def test_a_file_that_lost_its_name_is_not_written_any_more(path: Path, how: str) -> None:
    """What would be acknowledged there is found by nobody; and nothing makes an empty file in its place."""
    async with SQLiteTaskStore(path) as store:
        await store.apply(Enqueue((Spec("a", "task", "default", b"[]"),)))
        for each in path.parent.iterdir():
            each.unlink()
        if how == "replaced":
            async with SQLiteTaskStore(path):
                pass
        with pytest.raises(StoreMissing, match=how) as caught:
            await store.apply(Enqueue((Spec("b", "task", "default", b"[]"),)))
        assert caught.value.applied == "no"
        if how == "removed":
            with pytest.raises(StoreMissing):
                await store.apply(Count())
            with pytest.raises(StoreMissing):
                async with store.another():
                    pass
            assert not path.exists()
