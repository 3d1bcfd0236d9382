"""Connections of a store on a server: bounded, given back, and never held open by a task that runs.

What is counted is what the server itself sees, sampled while the load is on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from uuid import uuid4

import anyio
import pytest
from servers import Server
from site_of_workers import Site, until

from taskweave import App
from taskweave.abc import TaskStore
from taskweave.connect import connect
from taskweave.core.job import Spec, State
from taskweave.core.verbs import Count, Enqueue

pytestmark = pytest.mark.anyio

CALLERS, POOL = 200, 5


@pytest.fixture(params=["postgres", "mysql", "redis"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(kind: str, shared_server: Callable[[str], Server]) -> Server:
    return shared_server(kind)


@asynccontextmanager
async def user_of(server: Server) -> AsyncIterator[str]:
    """A user of the test's own, so that its connections can be told from those of others."""
    name, kind = f"u{uuid4().hex[:10]}", server.kind.scheme
    make, remove = {
        "postgres": ([f"CREATE ROLE {name} SUPERUSER LOGIN PASSWORD 'word'"], [f"DROP ROLE {name}"]),
        "mysql": ([f"CREATE USER {name} IDENTIFIED BY 'word'", f"GRANT ALL ON *.* TO {name}"], [f"DROP USER {name}"]),
        "redis": ([f"ACL SETUSER {name} on >word ~* &* +@all"], [f"ACL DELUSER {name}"]),
    }[kind]
    server.admin(*make)
    try:
        yield name
    finally:
        server.admin(*remove)


def connections_of(server: Server, user: str) -> int:
    kind = server.kind.scheme
    if kind == "redis":
        return str(server.admin("CLIENT LIST")).count(f" user={user} ")
    table = "pg_stat_activity WHERE usename" if kind == "postgres" else "information_schema.processlist WHERE user"
    return int(server.admin(f"SELECT count(*) FROM {table} = '{user}'")[0][0])


@asynccontextmanager
async def store_of(server: Server, user: str) -> AsyncIterator[TaskStore]:
    url = server.url(f"pool_{uuid4().hex[:12]}", user=user, password="word")
    async with connect(f"{url}&pool={POOL}") as store:
        try:
            yield store
        finally:
            await store.drop()  # type: ignore[attr-defined]  # an ability of stores on servers


@pytest.mark.proves(48, 152)
async def test_two_hundred_callers_share_five_connections(server: Server) -> None:
    seen: list[int] = []

    async def watch(user: str, over: anyio.Event) -> None:
        while not over.is_set():
            seen.append(await anyio.to_thread.run_sync(connections_of, server, user))

    async def enqueue(store: TaskStore, number: int) -> None:
        await store.apply(Enqueue((Spec(f"j{number}", "t", f"q{number % 7}", b"[]"),)))
        await store.apply(Count())

    async with user_of(server) as user, store_of(server, user) as store:
        with anyio.fail_after(60):
            over = anyio.Event()
            async with anyio.create_task_group() as watching:
                watching.start_soon(watch, user, over)
                async with anyio.create_task_group() as group:
                    for number in range(CALLERS):
                        group.start_soon(enqueue, store, number)
                over.set()
        stats = await store.apply(Count())
        assert sum(stat.count(State.READY) for stat in stats.queues) == CALLERS
        assert 1 < max(seen) <= POOL, f"connections seen: {seen}"
        assert connections_of(server, user) <= POOL
    assert connections_of(server, user) == 0, "a connection was left behind"


@pytest.mark.proves(152)
async def test_callers_that_are_cancelled_leave_no_connection_behind(server: Server) -> None:
    """Hundreds of calls, cut short at every point of their way; the pool is whole afterwards."""
    async with user_of(server) as user, store_of(server, user) as store:

        async def call(number: int) -> None:
            with anyio.move_on_after(number % 25 / 1_000):
                await store.apply(Count())
                await store.apply(Enqueue((Spec(f"j{number}", "t", "q", b"[]"),)))

        async with anyio.create_task_group() as group:  # asyncpg says aloud what a cancelled login leaves behind
            for _ in range(4 * POOL):
                group.start_soon(store.apply, Count())
        for _ in range(4):
            async with anyio.create_task_group() as group:
                for number in range(100):
                    group.start_soon(call, number)
        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                for _ in range(4 * POOL):
                    group.start_soon(store.apply, Count())
        assert connections_of(server, user) <= POOL
    assert connections_of(server, user) == 0


@pytest.mark.proves(49)
@pytest.mark.parametrize("site", ["postgres", "mysql"], indirect=True)
async def test_a_long_task_holds_no_open_transaction(site: Site, shared_server: Callable[[str], Server]) -> None:
    """It runs over several renewals of its lease; whenever one looks, no connection is inside a transaction at rest."""
    server = shared_server(site.url.partition(":")[0])
    resting = {
        "postgres": "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' "
        "AND application_name LIKE 'taskweave%' AND state_change < clock_timestamp() - interval '300 ms'",
        "mysql": "SELECT count(*) FROM information_schema.innodb_trx t JOIN information_schema.processlist p "
        "ON p.id = t.trx_mysql_thread_id WHERE p.command = 'Sleep' AND t.trx_started < NOW() - INTERVAL 1 SECOND",
    }[server.kind.scheme]
    await site.enqueue("hold", range(3))
    worker = site.worker()
    await until(lambda: len(site.count("start")) == 3)
    looks = 0
    with anyio.move_on_after(3.5):  # over three leases of this worker
        while True:
            found = await anyio.to_thread.run_sync(server.admin, resting)
            assert found[0][0] == 0, "a transaction is open while nothing but a task runs"
            looks += 1
            await anyio.sleep(0.05)
    assert looks > 10
    assert len(site.count("start")) == 3
    (site.folder / "go").touch()
    await until(lambda: len(site.count("end")) == 3)
    worker.terminate()
    assert await anyio.to_thread.run_sync(worker.wait, 20) == 0


async def test_a_worker_at_rest_holds_few_connections(server: Server) -> None:
    """One for the store, one for the keeper when a lease is renewed, one to listen: not one for each slot."""
    async with user_of(server) as user:
        url = server.url(f"pool_{uuid4().hex[:12]}", user=user, password="word")
        app = App(url)

        @app.task(name="note")
        async def note(n: int) -> None: ...

        async with app:
            async with app.worker(concurrency=100):
                handles = await note.enqueue_many([(n,) for n in range(100)])
                for handle in handles:
                    await handle.result()
                assert connections_of(server, user) <= 12
            async with connect(url) as store:
                await store.drop()  # type: ignore[attr-defined]  # an ability of stores on servers
