"""store.transaction() by itself: what commits, what is undone, and that a cancelled one leaves nothing behind."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

import anyio
import pytest
from transacting import MARK, Ledger, address, ledger_at

from taskweave import InvalidValue, NotOpen, StoreReadOnly, TransactionMisused
from taskweave.abc import EnqueuesInside, Listens, StoreTransaction, Transacts
from taskweave.connect import connect
from taskweave.core.job import Settled, Spec, Verb
from taskweave.core.unique import UniqueKey
from taskweave.core.verbs import (
    Count,
    Enqueue,
    Exchange,
    Lease,
    Load,
    PauseQueue,
    Renew,
    Renewed,
    Settlement,
)
from taskweave.exceptions import StoreUnavailable, UniqueConflict
from taskweave.stores.memory import MemoryTaskStore
from taskweave.stores.sqlite import SQLiteTaskStore

pytestmark = pytest.mark.anyio

KINDS = ["sqlite", "postgres", "mysql"]
LONG = {  # a statement that would take minutes
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1e10) SELECT max(i) FROM n",
    "postgres": "SELECT pg_sleep(300)",
    "mysql": "SELECT SLEEP(300)",
}


@pytest.fixture(params=KINDS)
async def ledger(
    request: pytest.FixtureRequest, tmp_path: Path, shared_server: Callable[[str], Any]
) -> AsyncIterator[Ledger]:
    async with ledger_at(address(request.param, tmp_path, shared_server), request.param) as ledger:
        yield ledger


def transaction(ledger: Ledger) -> Any:
    assert isinstance(ledger.store, Transacts)
    return ledger.store.transaction()


async def test_it_is_an_ability_of_three_stores(ledger: Ledger) -> None:
    assert isinstance(ledger.store, Transacts)
    assert isinstance(ledger.store, EnqueuesInside)
    assert not isinstance(MemoryTaskStore(), Transacts)
    async with transaction(ledger) as tx:
        assert isinstance(tx, StoreTransaction)


async def test_what_it_writes_is_seen_after_the_commit_and_by_nobody_before(ledger: Ledger) -> None:
    other = ledger.store.another()
    async with other:
        async with transaction(ledger) as tx:
            assert await tx.execute(ledger.insert, 1) == 1
            assert await tx.apply(PauseQueue("mail")) is True
            assert (await other.apply(Count())).queues == ()
        assert [stat.queue for stat in (await other.apply(Count())).queues] == ["mail"]
    assert await ledger.rows() == [1]


async def test_numbers_of_changed_rows_and_rows_by_name(ledger: Ledger) -> None:
    async with transaction(ledger) as tx:
        for n in (1, 2, 3):
            await tx.execute(ledger.insert, n)
        assert await tx.execute(f"UPDATE {ledger.table} SET n = n + 10 WHERE n > {MARK[ledger.kind]}", 1) == 2
        rows = await tx.fetch(f"SELECT n AS number, n * 2 AS twice FROM {ledger.table} ORDER BY n")
        assert [(row["number"], row[1], len(row), list(row.keys())) for row in rows][1] == (
            12,
            24,
            2,
            ["number", "twice"],
        )
        assert await tx.fetch(f"SELECT n FROM {ledger.table} WHERE n > 1000") == []
        with pytest.raises(InvalidValue):
            await tx.execute(b"SELECT 1")
        with pytest.raises((KeyError, IndexError)):
            _ = rows[0]["nonsense"]


@pytest.mark.parametrize("moment", ["statement", "between"])
async def test_a_cancelled_block_ends_at_once_and_the_next_one_works(ledger: Ledger, moment: str) -> None:
    async def block() -> None:
        async with transaction(ledger) as tx:
            await tx.execute(ledger.insert, 1)
            if moment == "between":
                await anyio.sleep_forever()
            await tx.fetch(LONG[ledger.kind])

    began = anyio.current_time()
    with anyio.move_on_after(0.5):
        await block()
    assert 0.4 < anyio.current_time() - began < 5, "the statement went on"
    with anyio.fail_after(5):
        assert await ledger.rows() == []
        async with transaction(ledger) as tx:
            await tx.execute(ledger.insert, 2)
    assert await ledger.rows() == [2]


async def test_waiting_for_a_transaction_can_be_cancelled(ledger: Ledger) -> None:
    if ledger.kind != "sqlite":
        pytest.skip("servers have more than one")
    other = ledger.store.another()
    async with other, transaction(ledger) as tx:
        await tx.execute(ledger.insert, 1)
        assert isinstance(other, Transacts)
        with anyio.move_on_after(0.2) as scope:
            async with other.transaction():
                raise AssertionError("two writers at once")
        assert scope.cancelled_caught
    assert await ledger.rows() == [1]


async def test_a_storm_of_cancellations_leaks_neither_connections_nor_locks(ledger: Ledger) -> None:
    random = Random(7)
    done: list[int] = []

    async def one(n: int) -> None:
        with anyio.move_on_after(random.random() * 0.02 if n % 2 else 30):
            async with transaction(ledger) as tx:
                await tx.execute(ledger.insert, n)
                await anyio.sleep(random.random() * 0.004)
                await tx.execute(f"UPDATE {ledger.table} SET n = n WHERE n = {MARK[ledger.kind]}", n)
            done.append(n)

    for round in range(4):
        async with anyio.create_task_group() as group:
            for n in range(round * 40, round * 40 + 40):
                group.start_soon(one, n)
    assert len(done) < 160, "no cancellation hit: the test would prove nothing"
    assert set(done) >= set(range(0, 160, 2))
    with anyio.fail_after(20):
        rows = await ledger.rows()
        assert len(rows) == len(set(rows))
        assert set(rows) >= set(done)
        async with anyio.create_task_group() as group:  # as many at once as there are connections
            for n in range(200, 212):
                group.start_soon(one, n * 2)
    use = getattr(getattr(ledger.store, "_opened", None), "use", None)
    assert use is None or (use.used, use.waiting) == (0, 0)
    if ledger.kind == "postgres":
        stuck = (
            "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' AND pid <> pg_backend_pid()"
        )
        assert (await ledger.run(stuck))[0][0] == 0
    if ledger.kind == "mysql":
        stuck = "SELECT count(*) FROM information_schema.innodb_trx WHERE trx_mysql_thread_id <> connection_id()"
        with anyio.fail_after(5):
            while (await ledger.run(stuck))[0][0]:
                await anyio.sleep(0.05)


async def test_closed_and_read_only_stores_say_so(ledger: Ledger) -> None:
    async with ledger_at_again(ledger) as closed:
        pass
    with pytest.raises(NotOpen):
        async with closed.transaction():
            raise AssertionError("never entered")
    if ledger.kind == "sqlite":
        assert isinstance(ledger.store, SQLiteTaskStore)
        async with SQLiteTaskStore(ledger.store.url, read_only=True) as store:
            with pytest.raises(StoreReadOnly):
                async with store.transaction():
                    raise AssertionError("never entered")


def ledger_at_again(ledger: Ledger) -> Any:
    return ledger.store.another()


async def test_an_error_of_the_users_sql_is_the_drivers_own_and_undoes_it(ledger: Ledger) -> None:
    async def block() -> None:
        async with transaction(ledger) as tx:
            await tx.execute(ledger.insert, 1)
            await tx.execute(f"INSERT INTO {ledger.table} (n) VALUES (NULL)")

    with pytest.raises(Exception, match=r"(?i)null") as raised:
        await block()
    assert not type(raised.value).__module__.startswith("taskweave")
    assert await ledger.rows() == []


async def test_postgres_undoes_what_goes_on_after_a_caught_error_and_says_why(ledger: Ledger) -> None:
    async def block() -> None:
        async with transaction(ledger) as tx:
            await tx.execute(ledger.insert, 1)
            with pytest.raises(Exception, match=r"(?i)null"):
                await tx.execute(f"INSERT INTO {ledger.table} (n) VALUES (NULL)")

    if ledger.kind == "postgres":
        with pytest.raises(TransactionMisused, match="an earlier statement has failed"):
            await block()
        assert await ledger.rows() == []
    else:  # there only the statement is undone
        await block()
        assert await ledger.rows() == [1]


async def test_a_refused_op_leaves_the_transaction_as_it_was(ledger: Ledger) -> None:
    key = UniqueKey("k", on_conflict="raise")
    async with transaction(ledger) as tx:
        await tx.apply(Enqueue((Spec("00000000-0000-7000-8000-000000000001", "t", "q", b"", unique=key),)))
        with pytest.raises(UniqueConflict):
            await tx.apply(
                Enqueue(
                    (
                        Spec("00000000-0000-7000-8000-000000000002", "t", "q", b""),
                        Spec("00000000-0000-7000-8000-000000000003", "t", "q", b"", unique=key),
                    )
                )
            )
        await tx.execute(ledger.insert, 1)
    (stat,) = (await ledger.store.apply(Count())).queues
    assert sum(number for _, number in stat.counts) == 1
    assert await ledger.rows() == [1]


async def test_a_broken_connection_undoes_it_and_says_that_nothing_happened(ledger: Ledger) -> None:
    """The server ends the session in the middle of the block."""
    if ledger.kind == "sqlite":
        pytest.skip("no connection to break")
    session = {"postgres": "SELECT pg_backend_pid()", "mysql": "SELECT connection_id()"}[ledger.kind]
    kill = {"postgres": "SELECT pg_terminate_backend($1)", "mysql": "KILL CONNECTION %s"}[ledger.kind]

    async def block() -> None:
        async with transaction(ledger) as tx:
            await tx.execute(ledger.insert, 1)
            ((number,),) = await tx.fetch(session)
            async with connect_again(ledger) as other, other.transaction() as killing:
                await killing.fetch(kill, number)
            await tx.execute(ledger.insert, 2)

    with pytest.raises(StoreUnavailable) as raised:
        await block()
    assert raised.value.applied == "no"
    assert await ledger.rows() == []


def connect_again(ledger: Ledger) -> Any:
    return ledger.store.another()


async def test_addresses_make_stores_that_transact(tmp_path: Path) -> None:
    async with connect(f"sqlite:///{tmp_path}/a.db") as store:
        assert isinstance(store, Transacts)


async def test_those_who_listen_hear_of_its_jobs_after_the_commit(ledger: Ledger) -> None:
    listening = connect(ledger.store.url) if ledger.kind == "sqlite" else ledger.store.another()
    if ledger.kind == "postgres":
        listening = connect(ledger.address)  # a store that knows nothing of the other
    assert isinstance(listening, Listens)
    async with listening, listening.listen(("q",)) as wakeups:
        with anyio.move_on_after(1):  # what is left of the opening
            await wakeups.wait()
        async with transaction(ledger) as tx:
            await tx.apply(Enqueue((Spec("00000000-0000-7000-8000-000000000001", "t", "q", b""),)))
        with anyio.fail_after(5):
            await wakeups.wait()


async def test_it_works_behind_a_pooler(shared_server: Callable[[str], Any]) -> None:
    """PgBouncer in transaction mode: no statement, setting or session outlives a transaction."""
    url = str(shared_server("pgbouncer").url(f"tx_{uuid4().hex[:12]}"))
    async with ledger_at(url, "postgres") as ledger:
        for n in range(3):
            async with transaction(ledger) as tx:
                await tx.execute(ledger.insert, n)
                await tx.apply(Enqueue((Spec(f"00000000-0000-7000-8000-00000000000{n}", "t", "q", b""),)))
                assert len(await tx.fetch(f"SELECT n FROM {ledger.table}")) == n + 1
        assert await ledger.rows() == [0, 1, 2]


@pytest.mark.parametrize("commits", [True, False])
async def test_a_renewal_waits_for_a_settlement_that_is_on_its_way(ledger: Ledger, commits: bool) -> None:
    """What makes a lost commit knowable: the answer to a renewal is never older than the transaction's end."""
    store = ledger.store
    id = "00000000-0000-7000-8000-000000000001"
    await store.apply(Enqueue((Spec(id, "t", "q", b""),)))
    (job,) = (await store.apply(Exchange("me", "c1", 1, ("q",), ("t",), 30_000_000))).claimed
    settle = (Settlement(id, job.fence, Verb.SUCCEED, b"1"),)
    renewed: list[Renewed] = []
    other = store.another()

    async def renew() -> None:
        renewed.append(await other.apply(Renew("me", (Lease(id, job.fence),), 30_000_000)))

    async def block() -> None:
        async with transaction(ledger) as tx:
            assert (await tx.apply(Exchange("me", "c2", 0, (), (), 30_000_000, settle))).refused == ()
            group.start_soon(renew)
            with anyio.move_on_after(0.5):  # time enough to answer, if it did not wait
                await anyio.sleep_forever()
            assert renewed == []
            if not commits:
                raise Undone

    async with other, anyio.create_task_group() as group:
        if commits:
            await block()
        else:
            with pytest.raises(Undone):
                await block()
    assert [bool(answer.lost) for answer in renewed] == [commits]
    (found,) = await store.apply(Load((id,)))
    assert found is not None
    assert (found.life.settled == Settled(job.fence, settle[0].digest())) is commits


class Undone(Exception):
    pass
