"""Behind PgBouncer in transaction mode everything works but wake-ups, and the store finds it out by itself.

Each transaction may land on another server process, so nothing of a session can be relied on: the pooler has two server
processes here, and many clients.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import anyio
import pytest
import servers
from server_fixtures import required
from servers import Server

from taskweave import App
from taskweave.core.ids import SECOND
from taskweave.core.job import Spec, State, Verb
from taskweave.core.unique import UniqueKey
from taskweave.core.verbs import CancelJobs, Count, Enqueue, Exchange, Find, Lease, Load, Maintain, Renew, Settlement

pytest.importorskip("asyncpg")

from taskweave.stores.postgres import PostgresTaskStore

pytestmark = pytest.mark.anyio

LEASE_US = 30 * SECOND


@pytest.fixture(scope="module")
def pooler() -> Iterator[Server]:
    required("pgbouncer", private=True)
    with servers.private("pgbouncer", default_pool_size=2) as server:
        yield server


@asynccontextmanager
async def made(server: Server, **options: Any) -> AsyncIterator[PostgresTaskStore]:
    async with PostgresTaskStore(server.url(f"behind_{uuid4().hex[:12]}"), **options) as store:
        try:
            yield store
        finally:
            with anyio.CancelScope(shield=True):
                await store.drop()


def job(**given: Any) -> Spec:
    return Spec(**({"id": str(uuid4()), "task": "t", "queue": "q", "payload": b"[[],{}]"} | given))


async def test_the_pooler_is_found_out(pooler: Server, shared_server: Callable[[str], Server]) -> None:
    async with made(pooler) as behind, made(shared_server("postgres")) as direct:
        assert "pooler" in (await behind.facts())["wake_ups"]
        assert (await direct.facts())["wake_ups"] == "notify"


async def test_every_verb_works_behind_it_for_many_at_once(pooler: Server) -> None:
    async def work(store: PostgresTaskStore, number: int) -> None:
        claimed: tuple[Any, ...] = ()
        while True:
            ends = tuple([Settlement(each.id, each.fence, Verb.SUCCEED, b"1") for each in claimed])
            answer = await store.apply(Exchange("m", str(uuid4()), 3, ("q",), ("t",), LEASE_US, ends))
            claimed = answer.claimed
            leases = tuple([Lease(each.id, each.fence) for each in claimed])
            assert (await store.apply(Renew("m", leases, LEASE_US))).lost == ()
            assert all(await store.apply(Load(tuple([lease.id for lease in leases]))))
            if number == 0:
                await store.apply(Maintain(LEASE_US))
            if not claimed:
                return

    async with made(pooler) as store:
        await store.apply(Enqueue(tuple([job() for _ in range(60)])))
        await store.apply(Enqueue((job(unique=UniqueKey("k")), job(unique=UniqueKey("k")))))
        waiting = job(delay_us=3_600 * SECOND)
        await store.apply(Enqueue((waiting,)))
        async with anyio.create_task_group() as group:
            for number in range(8):
                group.start_soon(work, store, number)
        await store.apply(CancelJobs((waiting.id,)))
        (stat,) = (await store.apply(Count())).queues
        assert dict(stat.counts) == {State.SUCCEEDED: 61, State.CANCELLED: 1}
        assert len((await store.apply(Find(limit=500))).jobs) == 62
        assert await store.check() == []


async def test_a_worker_drains_behind_it(pooler: Server) -> None:
    ran: list[int] = []

    async def note(n: int) -> None:
        ran.append(n)

    async with made(pooler) as store:
        app = App(store)
        task = app.task(note, name="note")
        async with app:
            await task.enqueue_many([(n,) for n in range(50)])
            with anyio.fail_after(60):
                await app.executor().run_until_idle()
    assert sorted(ran) == list(range(50))


async def test_a_cancelled_call_leaves_the_pooler_no_open_transaction(
    pooler: Server, shared_server: Callable[[str], Server]
) -> None:
    async with made(pooler) as store:
        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(_hurried, store, 0.001 * number)
        await store.apply(Count())
        rows = shared_server("postgres").admin(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'taskweave' AND state LIKE 'idle in%'"
            f" AND query LIKE '%{store.url.rpartition('=')[2]}%'"
        )
        assert rows == [(0,)]


async def _hurried(store: PostgresTaskStore, seconds: float) -> None:
    with anyio.move_on_after(seconds):
        await store.apply(Find(limit=10))
