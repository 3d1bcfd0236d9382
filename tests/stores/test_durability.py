"""What an answered job survives on each server, as it may be set up: the tests that docs/explanation/stores.md names.

A killed server stands for every crash of it. What only a power cut takes (what the system had not yet written to the
disk) cannot be had in a test; the page says so where it matters.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

import anyio
import anyio.lowlevel
import pytest
from every_kind import spec
from package_source import ROOT
from servers import Server

from taskweave.connect import connect
from taskweave.core.verbs import Enqueue, Load
from taskweave.exceptions import StoreMissing, StoreUnavailable

Private = Callable[..., Server]
NAMESPACE = "durable"


async def enqueued(server: Server, *names: str) -> None:
    async with connect(server.url(NAMESPACE)) as store:
        await store.apply(Enqueue(tuple([spec(name) for name in names])))


async def there(server: Server, *names: str) -> list[bool]:
    async with connect(server.url(NAMESPACE), create=False) as store:
        return [job is not None for job in await store.apply(Load(names))]


async def until_answered(ask: Callable[[], Awaitable[object]]) -> None:
    """Ask until the server that came back answers something else than that it cannot be reached."""
    with anyio.fail_after(20):
        while True:
            try:
                await ask()
            except StoreUnavailable:
                await anyio.lowlevel.checkpoint()
            else:
                return


def crash(server: Server) -> None:
    server.kill()
    server.restart()


@pytest.mark.proves(133)
@pytest.mark.parametrize("kind", ["postgres", "mysql", "redis"])
@pytest.mark.anyio
async def test_a_careful_server_keeps_what_it_answered(private_server: Private, kind: str) -> None:
    """PostgreSQL and MariaDB as they come, Redis with appendonly yes and appendfsync always."""
    server = private_server(kind, durable=True)
    await enqueued(server, "first", "second")
    crash(server)
    assert await there(server, "first", "second") == [True, True]
    await enqueued(server, "third")


@pytest.mark.proves(133)
@pytest.mark.anyio
async def test_redis_that_writes_every_second_keeps_what_it_answered_when_it_is_killed(private_server: Private) -> None:
    """The system has it already; a power cut would take the second that the disk has not."""
    server = private_server("redis", durable=True, appendfsync="everysec")
    await enqueued(server, "first")
    crash(server)
    assert await there(server, "first") == [True]


@pytest.mark.proves(133)
@pytest.mark.anyio
async def test_redis_without_persistence_loses_everything_and_says_so(private_server: Private) -> None:
    """A store that is gone is no empty store: who has it open is refused, instead of waiting for ever."""
    server = private_server("redis")
    async with connect(server.url(NAMESPACE)) as store:
        await store.apply(Enqueue((spec("first"),)))
        crash(server)
        with pytest.raises(StoreMissing):
            await until_answered(lambda: store.apply(Enqueue((spec("second"),))))
    with pytest.raises(StoreMissing):
        await there(server, "first")


@pytest.mark.proves(133)
@pytest.mark.anyio
async def test_redis_with_snapshots_alone_loses_what_came_after_the_last_one(private_server: Private) -> None:
    server = private_server("redis", save="3600 1")
    await enqueued(server, "first")
    server.admin("SAVE")
    await enqueued(server, "second")
    crash(server)
    assert await there(server, "first", "second") == [True, False]


@pytest.mark.proves(133)
@pytest.mark.anyio
async def test_postgres_without_synchronous_commit_loses_the_last_moments(private_server: Private) -> None:
    server = private_server("postgres", durable=True, synchronous_commit="off", wal_writer_delay="10s")
    await enqueued(server, "first")
    server.admin("CHECKPOINT")
    await enqueued(server, "second")
    crash(server)
    assert await there(server, "first", "second") == [True, False]


@pytest.mark.proves(133)
@pytest.mark.anyio
async def test_mariadb_that_writes_its_log_by_the_clock_loses_the_last_moments(private_server: Private) -> None:
    settings = {"innodb_flush_log_at_trx_commit": 0, "innodb_flush_log_at_timeout": 2_700}
    server = private_server("mysql", durable=True, **settings)
    await enqueued(server, "first")
    server.admin("SET GLOBAL innodb_flush_log_at_trx_commit = 1", "CREATE TABLE noted (one int)", "DROP TABLE noted")
    server.admin("SET GLOBAL innodb_flush_log_at_trx_commit = 0")
    await enqueued(server, "second")
    crash(server)
    assert await there(server, "first", "second") == [True, False]


@pytest.mark.proves(133)
@pytest.mark.anyio
async def test_memory_ends_with_its_process() -> None:
    """Nothing of it is anywhere else: another store at the same address knows nothing of it."""
    async with connect("memory://") as store, connect("memory://") as other:
        await store.apply(Enqueue((spec("first"),)))
        assert await other.apply(Load(("first",))) == (None,)


@pytest.mark.proves(133, 134)
def test_the_page_names_tests_that_there_are() -> None:
    """Each line of the table of durability names the test that shows it."""
    page = (ROOT / "docs/explanation/stores.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/.]+)(?:::(\w+))?`", page)
    assert len(named) >= 11
    for path, name in named:
        source = (ROOT / path).read_text(encoding="utf-8")
        assert not name or f"def {name}(" in source, f"{path} has no test {name}"
    assert "SQLite to develop" in page
    assert "PostgreSQL in production" in page
    assert "Redis where speed matters more than the last second" in page
