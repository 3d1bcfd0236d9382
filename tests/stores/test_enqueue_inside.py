"""Jobs in the user's own transaction: there after its commit and never after its rollback, by every kind of connection.

Each kind of connection is a `Way`: how it is opened, how a row of the user's is written, how it ends.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from taskweave import App, InvalidValue, MissingAbility, NotOpen, StoreMissing, SyncInsideLoop, Unique, UniqueConflict
from taskweave.core.verbs import Enqueue
from taskweave.exceptions import DuplicateId, StoreUnavailable
from taskweave.stores.sqlite import SQLiteTaskStore

pytestmark = pytest.mark.anyio


class Undo(Exception):
    pass


@pytest.fixture
def asyncio_alone(anyio_backend: tuple[str, dict[str, Any]]) -> None:
    """These drivers are asyncio's; on trio the user has no connection of them."""
    if anyio_backend[0] == "trio":
        pytest.skip("a driver of asyncio alone")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture
async def app(path: Path) -> AsyncIterator[App]:
    app = App(f"sqlite:///{path}")

    async def note(n: int) -> int:
        return n

    app.task(note, name="note")
    async with app:
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE mine (n INTEGER)")
        connection.close()
        yield app


async def jobs(app: App) -> list[str]:
    return sorted([str(view.args[0]) async for view in app.find()])


def mine(path: Path) -> list[int]:
    connection = sqlite3.connect(path)
    try:
        return [n for (n,) in connection.execute("SELECT n FROM mine ORDER BY n")]
    finally:
        connection.close()


INSERT = "INSERT INTO mine VALUES (?)"


# --- the ways -----------------------------------------------------------------------------------------------------


@contextmanager
def plain(path: Path) -> Iterator[Any]:
    """sqlite3 as it comes: the module begins before the first write."""
    connection = sqlite3.connect(path)
    try:
        with connection:
            yield connection
    finally:
        connection.close()


@contextmanager
def explicit(path: Path) -> Iterator[Any]:
    """With rows and texts as the user likes them, and a BEGIN of the user's."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.row_factory, connection.text_factory = sqlite3.Row, bytes
    try:
        connection.execute("BEGIN")
        try:
            yield connection
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
        assert connection.row_factory is sqlite3.Row
        assert connection.text_factory is bytes
    finally:
        connection.close()


@contextmanager
def pep249(path: Path) -> Iterator[Any]:
    """As Python 3.12 has it: always in a transaction."""
    if sys.version_info < (3, 12):
        pytest.skip("newer Pythons know it")
    connection = sqlite3.connect(path, autocommit=False)
    try:
        with connection:
            yield connection
    finally:
        connection.close()


@contextmanager
def sa_session(path: Path) -> Iterator[Any]:
    sqlalchemy = pytest.importorskip("sqlalchemy")
    from sqlalchemy.orm import Session

    engine = sqlalchemy.create_engine(f"sqlite:///{path}")
    try:
        with Session(engine) as session, session.begin():
            yield session
    finally:
        engine.dispose()


@contextmanager
def sa_connection(path: Path) -> Iterator[Any]:
    sqlalchemy = pytest.importorskip("sqlalchemy")
    engine = sqlalchemy.create_engine(f"sqlite:///{path}")
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


SYNC_WAYS = [plain, explicit, pep249, sa_session, sa_connection]


def write(tx: Any, n: int) -> None:
    if isinstance(tx, sqlite3.Connection):
        tx.execute(INSERT, (n,))
    else:
        (tx if hasattr(tx, "exec_driver_sql") else tx.connection()).exec_driver_sql(INSERT, (n,))


@pytest.mark.parametrize("way", SYNC_WAYS)
@pytest.mark.parametrize("first", ["job", "row"])
async def test_a_sync_connection_commits_or_undoes_both(app: App, path: Path, way: Any, first: str) -> None:
    note = app.tasks["note"]
    with way(path) as tx:
        if first == "row":
            write(tx, 1)
        await note.options(tx=tx).enqueue(1)
        await note.options(tx=tx).enqueue_many([(2,), (3,)])
        if first == "job":
            write(tx, 1)
        assert await jobs(app) == []
    assert await jobs(app) == ["1", "2", "3"]
    assert mine(path) == [1]

    async def undone() -> None:
        with way(path) as tx:
            await note.options(tx=tx).enqueue(4)
            write(tx, 4)
            raise Undo

    with pytest.raises(Undo):
        await undone()
    assert await jobs(app) == ["1", "2", "3"]
    assert mine(path) == [1]


@pytest.mark.parametrize("way", SYNC_WAYS)
def test_a_program_without_a_loop_enqueues_inside_its_transaction(path: Path, way: Any) -> None:
    app = App(f"sqlite:///{path}")

    def note(n: int) -> int:
        return n

    task = app.task(note, name="note")
    first = task.enqueue_sync(0)  # which makes the store
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE mine (n INTEGER)")
    connection.close()
    with way(path) as tx:
        handle = task.options(tx=tx).enqueue_sync(1)
        called = task.options(tx=tx).call(2).enqueue_sync(key="k")
        write(tx, 1)
        with pytest.raises(Exception, match=handle.id):
            handle.status_sync()
    assert handle.status_sync() == called.status_sync() == first.status_sync() == "ready"
    undone: list[Any] = []

    def undo() -> None:
        with way(path) as tx:
            undone.extend(task.options(tx=tx).enqueue_many_sync([(3,), (4,)]))
            raise Undo

    with pytest.raises(Undo):
        undo()
    with pytest.raises(Exception, match=undone[0].id):
        undone[0].status_sync()
    app.close_sync()


@asynccontextmanager
async def own_aiosqlite(path: Path) -> AsyncIterator[Any]:
    import aiosqlite

    async with aiosqlite.connect(path) as connection:
        connection.row_factory = sqlite3.Row
        try:
            yield connection
        except BaseException:
            await connection.rollback()
            raise
        await connection.commit()


@asynccontextmanager
async def sa_async_session(path: Path) -> AsyncIterator[Any]:
    pytest.importorskip("sqlalchemy")
    pytest.importorskip("greenlet")
    from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

    engine = create_async_engine(f"sqlite+aiosqlite:///{path}")
    try:
        async with AsyncSession(engine) as session, session.begin():
            yield session
    finally:
        await engine.dispose()


@asynccontextmanager
async def sa_async_connection(path: Path) -> AsyncIterator[Any]:
    pytest.importorskip("sqlalchemy")
    pytest.importorskip("greenlet")
    from sqlalchemy.ext.asyncio import create_async_engine

    engine = create_async_engine(f"sqlite+aiosqlite:///{path}")
    try:
        async with engine.begin() as connection:
            yield connection
    finally:
        await engine.dispose()


async def awrite(tx: Any, n: int) -> None:
    if hasattr(tx, "executemany"):
        await tx.execute(INSERT, (n,))
    else:
        await (tx if hasattr(tx, "exec_driver_sql") else await tx.connection()).exec_driver_sql(INSERT, (n,))


@pytest.mark.parametrize("way", [own_aiosqlite, sa_async_session, sa_async_connection])
@pytest.mark.usefixtures("asyncio_alone")
async def test_an_async_connection_commits_or_undoes_both(app: App, path: Path, way: Any) -> None:
    note = app.tasks["note"]
    async with way(path) as tx:
        await note.options(tx=tx).enqueue(1)
        await awrite(tx, 1)
        await app.enqueue_many([note.options(tx=tx).call(2), note.options(tx=tx, delay="1h").call(3)])
        assert await jobs(app) == []
    assert await jobs(app) == ["1", "2", "3"]

    async def undone() -> None:
        async with way(path) as tx:
            await awrite(tx, 4)
            await note.options(tx=tx).enqueue(4)
            raise Undo

    with pytest.raises(Undo):
        await undone()
    assert await jobs(app) == ["1", "2", "3"]
    assert mine(path) == [1]


async def test_a_transaction_of_the_store_is_one_too(app: App, path: Path) -> None:
    note = app.tasks["note"]
    async with app.store.transaction() as tx:  # type: ignore[attr-defined]  # this one transacts
        await tx.execute(INSERT, 1)
        await note.options(tx=tx).enqueue(1)
        assert await jobs(app) == []
    assert await jobs(app) == ["1"]


async def test_a_worker_runs_it_soon_after_the_commit(app: App, path: Path) -> None:
    note = app.tasks["note"]
    async with app.worker(poll="1h"):
        with plain(path) as tx:
            handle = await note.options(tx=tx).enqueue(5)
        assert await handle.result(timeout="10s") == 5


# --- refusals -----------------------------------------------------------------------------------------------------


async def test_what_is_no_connection_is_refused_with_what_is(app: App) -> None:
    note = app.tasks["note"]
    with pytest.raises(InvalidValue, match=r"sqlite3 or aiosqlite.*AsyncSession"):
        await note.options(tx="nonsense").enqueue(1)
    assert await jobs(app) == []


async def test_autocommit_is_refused(app: App, path: Path) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    with pytest.raises(InvalidValue, match="begin one first"):
        await app.tasks["note"].options(tx=connection).enqueue(1)
    connection.close()
    if sys.version_info >= (3, 12):
        connection = sqlite3.connect(path, autocommit=True)
        with pytest.raises(InvalidValue, match="begin one first"):
            await app.tasks["note"].options(tx=connection).enqueue(1)
        connection.close()
    assert await jobs(app) == []


async def test_another_file_is_refused_and_one_without_a_store(app: App, tmp_path: Path) -> None:
    with plain(tmp_path / "other.db") as connection, pytest.raises(InvalidValue, match=r"jobs\.db, where the jobs are"):
        await app.tasks["note"].options(tx=connection).enqueue(1)
    memory = sqlite3.connect(":memory:")
    with pytest.raises(InvalidValue, match="where the jobs are"):
        await app.tasks["note"].options(tx=memory).enqueue(1)
    memory.close()
    empty = tmp_path / "empty.db"
    with plain(empty) as connection, pytest.raises(StoreMissing):
        await SQLiteTaskStore(empty).enqueue_inside(connection, Enqueue(()))


async def test_a_store_that_cannot_is_named() -> None:
    app = App("memory://")

    async def note(n: int) -> None: ...

    task = app.task(note)
    async with app:
        with pytest.raises(MissingAbility, match=r"memory://.*tx"):
            await task.options(tx=object()).enqueue(1)


async def test_it_is_refused_inside_a_loop_and_outside_of_the_app(app: App, path: Path) -> None:
    note = app.tasks["note"]
    with plain(path) as tx, pytest.raises(SyncInsideLoop):
        note.options(tx=tx).enqueue_sync(1)
    closed = App(f"sqlite:///{path}")

    async def other(n: int) -> None: ...

    with pytest.raises(NotOpen), plain(path) as tx:
        await closed.task(other).options(tx=tx).enqueue(1)


def test_an_async_connection_is_refused_without_a_loop(path: Path) -> None:
    import aiosqlite

    app = App(f"sqlite:///{path}")

    def note(n: int) -> None: ...

    connection = aiosqlite.Connection(lambda: sqlite3.connect(path), 64)
    with pytest.raises(InvalidValue, match="a synchronous connection"):
        app.task(note).options(tx=connection).enqueue_sync(1)


# --- what a verb promises holds inside too ------------------------------------------------------------------------


async def test_a_refused_enqueue_leaves_the_transaction_as_it_was(app: App, path: Path) -> None:
    note = app.tasks["note"]
    once = note.options(unique=Unique(by="n", on_conflict="raise"))
    with plain(path) as tx:
        write(tx, 1)
        await once.options(tx=tx).enqueue(1)
        with pytest.raises(UniqueConflict):
            await once.options(tx=tx).enqueue_many([(2,), (1,)])
        with pytest.raises(DuplicateId):
            await app.enqueue_many([note.options(tx=tx, id="0" * 8 + "-0000-0000-0000-" + "0" * 12).call(5)] * 2)
    assert await jobs(app) == ["1"]
    assert mine(path) == [1]


async def test_a_second_writer_waits_and_says_so_when_it_waits_too_long(app: App, path: Path) -> None:
    """A deferred transaction that has read an old state cannot write any more: SQLite refuses at once."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN")
    connection.execute("SELECT count(*) FROM mine").fetchone()
    await app.tasks["note"].enqueue(1)
    with pytest.raises(StoreUnavailable) as raised:
        await app.tasks["note"].options(tx=connection).enqueue(2)
    assert raised.value.applied == "no"
    connection.execute("ROLLBACK")
    connection.close()
    assert await jobs(app) == ["1"]


async def test_calls_of_two_transactions_are_no_batch(app: App, path: Path) -> None:
    note = app.tasks["note"]
    with plain(path) as one, plain(path) as two, pytest.raises(InvalidValue, match="the same in all calls"):
        await app.enqueue_many([note.options(tx=one).call(1), note.options(tx=two).call(2)])


async def test_other_ops_wait_for_a_transaction_and_go_on_after_it(app: App, path: Path) -> None:
    note = app.tasks["note"]
    async with anyio.create_task_group() as group, app.store.transaction() as tx:  # type: ignore[attr-defined]  # it transacts
        await tx.execute(INSERT, 1)
        group.start_soon(note.enqueue, 1)
        assert await jobs(app) == []
    assert await jobs(app) == ["1"]
