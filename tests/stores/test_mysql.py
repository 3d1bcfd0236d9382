"""The MySQL store on MariaDB 10.11, which is what it is tested on: agreement, company, cancellation, refusals, cuts."""

from __future__ import annotations

import random
import subprocess
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import anyio
import pytest
from attrs import evolve
from servers import Server

from taskweave.core.ids import SECOND
from taskweave.core.job import Failure, Spec, State, Verb
from taskweave.core.unique import UniqueKey
from taskweave.core.verbs import (
    CancelJobs,
    Count,
    Enqueue,
    Exchange,
    Find,
    How,
    Lease,
    Load,
    Maintain,
    PauseQueue,
    Renew,
    ResumeQueue,
    Settlement,
    TakeDump,
)
from taskweave.exceptions import (
    InvalidStoreUrl,
    InvalidValue,
    SchemaTooNew,
    SchemaTooOld,
    StoreError,
    StoreFull,
    StoreMissing,
    StoreReadOnly,
    StoreRefused,
    StoreUnavailable,
    UnknownOption,
)

pytest.importorskip("asyncmy")

from taskweave.stores._mysql import opened as opened_module
from taskweave.stores._mysql.address import parsed
from taskweave.stores._mysql.driver import errors
from taskweave.stores._mysql.errors import converted
from taskweave.stores.mysql import MySQLTaskStore, schema_sql
from taskweave.testing.concurrent import workload
from taskweave.testing.judging import JUDGES

pytestmark = pytest.mark.anyio

LEASE_US = 30 * SECOND


@pytest.fixture
def server(shared_server: Callable[[str], Server]) -> Server:
    return shared_server("mariadb")


@asynccontextmanager
async def opened(server: Server, **given: Any) -> AsyncGenerator[MySQLTaskStore]:
    """A store in a namespace of its own, which is gone afterwards."""
    given = {"namespace": f"t_{uuid4().hex[:12]}"} | given
    async with MySQLTaskStore(server.url(), **given) as store:
        try:
            yield store
        finally:
            with anyio.CancelScope(shield=True):
                await store.drop()


@pytest.fixture
async def store(server: Server, anyio_backend: object) -> AsyncGenerator[MySQLTaskStore]:
    async with opened(server) as made:
        yield made


def jobs(number: int, prefix: str = "j", **given: Any) -> Enqueue:
    return Enqueue(tuple([Spec(f"{prefix}{place:05}", "t", "q", b"[]", **given) for place in range(number)]))


def claim(claim_id: str, want: int, settle: tuple[Settlement, ...] = (), member: str = "m") -> Exchange:
    return Exchange(member, claim_id, want, ("q",), ("t",), LEASE_US, settle)


def open_transactions(server: Server) -> int:
    """Transactions that hold locks or have written."""
    asked = "SELECT count(*) FROM information_schema.innodb_trx WHERE trx_rows_locked + trx_rows_modified > 0"
    return int(server.admin(asked)[0][0])


async def until(condition: Callable[[], bool], what: str) -> None:
    with anyio.fail_after(20):
        while not await anyio.to_thread.run_sync(condition):
            await anyio.sleep(0.02)  # no event says so; bounded above
    assert condition(), what


# --- company --------------------------------------------------------------------------------------------------------


async def test_sixteen_clients_at_once_break_no_promise_on_mariadb_10_11(store: MySQLTaskStore) -> None:
    history = await workload(store, seed=7)
    assert {name: wrong for name, (judge, _) in JUDGES.items() if (wrong := judge(history))} == {}


async def test_no_job_is_lost_or_claimed_twice_by_sixteen_workers(store: MySQLTaskStore) -> None:
    taken: list[str] = []
    await store.apply(jobs(400))

    async def work(number: int) -> None:
        ends: tuple[Settlement, ...] = ()
        for turn in range(1_000):
            answer = await store.apply(claim(f"{number}-{turn}", 5, ends, member=f"m{number}"))
            assert answer.refused == ()
            taken.extend(job.id for job in answer.claimed)
            ends = tuple([Settlement(job.id, job.fence, Verb.SUCCEED, b"%d" % number) for job in answer.claimed])
            if not answer.claimed:
                return

    async with anyio.create_task_group() as group:
        for number in range(16):
            group.start_soon(work, number)
    assert sorted(taken) == [spec.id for spec in jobs(400).specs]
    stats = await store.apply(Count())
    assert stats.queues[0].counts == ((State.SUCCEEDED, 400),)
    assert await store.check() == []


async def test_one_claim_sent_twice_at_once_is_one_claim(store: MySQLTaskStore) -> None:
    await store.apply(jobs(20))
    answers = []

    async def send() -> None:
        answers.append(await store.apply(claim("the-same", 10)))

    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(send)
    assert {tuple(sorted(job.id for job in answer.claimed)) for answer in answers} == {
        tuple(spec.id for spec in jobs(10).specs)
    }
    assert await store.check() == []


async def test_of_many_enqueues_with_one_key_at_once_one_makes_a_job(store: MySQLTaskStore) -> None:
    for turn in range(5):
        hows = []

        async def enqueue(number: int, turn: int = turn, hows: list[How] = hows) -> None:
            spec = Spec(f"{turn}-{number}", "t", "q", b"[]", unique=UniqueKey(f"key {turn}"))
            hows.extend([answer.how for answer in await store.apply(Enqueue((spec,)))])

        async with anyio.create_task_group() as group:
            for number in range(24):
                group.start_soon(enqueue, number)
        assert hows.count(How.CREATED) == 1
    assert len((await store.apply(TakeDump())).jobs) == 5


async def test_batches_that_meet_in_opposite_orders_all_succeed(store: MySQLTaskStore) -> None:
    """Keys taken crosswise are a deadlock of the server's, which no caller gets to see."""
    keys = [f"key {number}" for number in range(12)]

    async def enqueue(number: int) -> None:
        order = keys if number % 2 else keys[::-1]
        specs = [Spec(f"{number}-{key}", "t", "q", b"[]", unique=UniqueKey(key)) for key in order]
        await store.apply(Enqueue(tuple(specs)))

    async with anyio.create_task_group() as group:
        for number in range(16):
            group.start_soon(enqueue, number)
    assert len((await store.apply(TakeDump())).jobs) == len(keys)


async def test_a_lease_made_shorter_ends_at_its_new_time(store: MySQLTaskStore) -> None:
    """Claims are the index over leases: they must know that one of theirs ends sooner."""
    await store.apply(jobs(2), at=SECOND)
    taken = (await store.apply(claim("c", 2), at=SECOND)).claimed
    await store.apply(Renew("m", (Lease(taken[0].id, taken[0].fence),), 2 * SECOND), at=2 * SECOND)
    assert (await store.apply(Maintain(LEASE_US), at=4 * SECOND - 1)).reaped == 0
    assert (await store.apply(Maintain(LEASE_US), at=4 * SECOND)).reaped == 1
    assert await store.check() == []


async def test_a_claim_that_waits_for_a_settlement_is_not_older_than_it(store: MySQLTaskStore) -> None:
    """What is seen under a lock is never later than the time that is written for it."""
    await store.apply(jobs(40))

    async def work(number: int) -> None:
        ends: tuple[Settlement, ...] = ()
        for turn in range(12):
            answer = await store.apply(claim(f"{number}-{turn}", 4, ends, member=f"m{number}"))
            ends = tuple([Settlement(job.id, job.fence, Verb.RETRY, error=Failure("E", "")) for job in answer.claimed])

    specs = jobs(40, "r", max_attempts=1_000)
    await store.apply(specs)
    async with anyio.create_task_group() as group:
        for number in range(8):
            group.start_soon(work, number)
    for job in (await store.apply(TakeDump())).jobs:
        spans = [(entry.started_at, entry.ended_at) for entry in job.life.history]
        assert spans == sorted(spans), job.id
        assert all(before[1] <= after[0] for before, after in pairwise(spans)), job.id


async def test_running_and_failed_jobs_are_found_among_others(store: MySQLTaskStore) -> None:
    await store.apply(jobs(6))
    taken = (await store.apply(claim("c", 4))).claimed
    failing = Settlement(taken[0].id, taken[0].fence, Verb.FAIL, error=Failure("E", ""))
    await store.apply(claim("d", 0, (failing, Settlement(taken[1].id, taken[1].fence, Verb.SUCCEED, b"1"))))
    for states, wanted in (((State.RUNNING,), [3, 2]), ((State.FAILED, State.LOST), [0]), ((), [5, 4, 3, 2, 1, 0])):
        for queue in (None, "q", "other"):
            found = await store.apply(Find(states, queue, limit=10))
            assert [job.id for job in found.jobs] == [f"j{n:05}" for n in wanted if queue != "other"]
        (first, *_) = (await store.apply(Find(states, limit=1))).jobs
        assert first.id == f"j{wanted[0]:05}"


# --- cancellation ---------------------------------------------------------------------------------------------------


async def test_a_storm_of_cancellations_leaves_nothing_behind(server: Server, store: MySQLTaskStore) -> None:
    chance = random.Random(5)
    await store.apply(jobs(300))
    done = cancelled = 0

    async def storm(number: int) -> None:
        nonlocal done, cancelled
        for turn in range(25):
            ops = (claim(f"{number}-{turn}", 3), jobs(5, f"s{number}-{turn}-"), TakeDump(), Find(limit=200), Count())
            with anyio.move_on_after(chance.uniform(0, 0.03)) as scope:
                await store.apply(ops[turn % len(ops)])
                done += 1
            cancelled += scope.cancelled_caught

    async with anyio.create_task_group() as group:
        for number in range(8):
            group.start_soon(storm, number)
    assert done, "every call was cancelled: the storm was too strong to show anything"
    assert cancelled, "no call was cancelled: the storm was too weak to show anything"
    facts = await store.facts()
    assert facts["pool_used"] == 0
    assert facts["pool_size"] <= facts["pool_max"]
    await until(lambda: open_transactions(server) == 0, "no transaction is left open")
    assert (await store.apply(claim("after", 300))).claimed
    assert await store.check() == []


async def test_a_cancelled_read_is_ended_on_the_server(server: Server, store: MySQLTaskStore) -> None:
    await store.apply(jobs(2_000))
    with anyio.move_on_after(0.002):
        await store.apply(TakeDump())
    running = (
        f"SELECT count(*) FROM information_schema.processlist WHERE info LIKE '%{store.url.rpartition('=')[2]}%job%'"
    )
    asks = f"{running} AND id <> connection_id()"
    await until(lambda: server.admin(asks)[0][0] == 0, "the server goes on with a read that nobody wants")
    assert len((await store.apply(TakeDump())).jobs) == 2_000


async def test_a_write_past_its_deadline_is_unknown_and_keeps_no_lock(
    server: Server, store: MySQLTaskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    namespace = store.url.rpartition("=")[2]
    await store.apply(jobs(1))
    other = await holding(server, f"SELECT * FROM {namespace}_job FOR UPDATE")
    monkeypatch.setattr(opened_module, "CALL_DEADLINE_S", 0.4)
    monkeypatch.setattr(opened_module.Opened.within, "__kwdefaults__", {"deadline_s": 0.4})
    with pytest.raises(StoreUnavailable) as caught:
        await store.apply(CancelJobs(("j00000",)))
    assert caught.value.applied == "unknown"
    assert (await store.facts())["sessions_killed"] == 1
    await other()
    await until(lambda: open_transactions(server) == 0, "the write that was given up still holds locks")
    (job,) = await store.apply(Load(("j00000",)))
    assert job is not None
    assert job.state is State.READY
    await store.apply(CancelJobs(("j00000",)))


async def holding(server: Server, sql: str) -> Callable[[], Any]:
    """Runs this in a transaction of another session; returns what ends it."""
    thread = _Holding(server, sql)
    await anyio.to_thread.run_sync(thread.begin)

    async def end() -> None:
        await anyio.to_thread.run_sync(thread.end)

    return end


class _Holding:
    def __init__(self, server: Server, sql: str) -> None:
        from anyio.from_thread import start_blocking_portal

        self._server, self._sql = server, sql
        self._context = start_blocking_portal()

    def begin(self) -> None:
        portal = self._portal = self._context.__enter__()

        async def start() -> Any:
            import asyncmy

            server = self._server
            connection = await asyncmy.connect(
                host=server.host, port=server.port, user=server.user, password=server.password, db=server.database
            )
            cursor = connection.cursor()
            await cursor.execute("BEGIN")
            await cursor.execute(self._sql)
            return connection

        self._connection = portal.call(start)

    def end(self) -> None:
        self._portal.call(self._connection.ensure_closed)
        self._context.__exit__(None, None, None)


async def test_waiting_for_a_connection_can_be_cancelled_and_applies_nothing(server: Server) -> None:
    async with opened(server, pool_max=1) as store:
        namespace = store.url.rpartition("=")[2]
        await store.apply(jobs(1))
        other = await holding(server, f"SELECT * FROM {namespace}_job FOR UPDATE")
        async with anyio.create_task_group() as group:
            group.start_soon(store.apply, CancelJobs(("j00000",)))
            await until(lambda: bool(store._opened and store._opened.use.used), "the only connection is in use")
            with anyio.move_on_after(0.1) as scope:
                await store.apply(jobs(1, "never"))
            assert scope.cancelled_caught
            await other()
        facts = await store.facts()
        assert (facts["pool_waits"], facts["pool_used_most"]) == (1, 1)
        assert await store.apply(Load(("never00000",))) == (None,)


# --- cuts -----------------------------------------------------------------------------------------------------------


async def test_idle_connections_that_were_cut_are_replaced_unnoticed(server: Server, store: MySQLTaskStore) -> None:
    await store.apply(jobs(3))
    for turn in range(5):
        async with anyio.create_task_group() as group:  # several connections, which are idle afterwards
            for _ in range(4):
                group.start_soon(store.apply, Count())
        ours = "SELECT id FROM information_schema.processlist WHERE command = 'Sleep' AND id <> connection_id()"
        for (number,) in server.admin(ours):
            server.admin(f"KILL {number}")
        await store.apply(PauseQueue(f"p{turn}"))
    assert len((await store.apply(TakeDump())).paused) == 5
    assert (await store.facts())["pool_opened"] > 5


def test_what_broke_during_the_commit_is_unknown() -> None:
    lost = errors.OperationalError(2013, "Lost connection to MySQL server during query")
    assert converted(lost, "s", committing=True).applied == "unknown"  # type: ignore[union-attr]
    assert converted(lost, "s").applied == "no"  # type: ignore[union-attr]
    deadlock = errors.OperationalError(1213, "Deadlock found")
    assert converted(deadlock, "s", committing=True).applied == "no"  # type: ignore[union-attr]
    killed = errors.OperationalError(1317, "Query execution was interrupted")
    assert converted(killed, "s", committing=True).applied == "unknown"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("number", "kind", "transient"),
    [
        (1021, StoreFull, True),
        (1040, StoreUnavailable, True),
        (1044, StoreRefused, False),
        (1045, StoreRefused, False),
        (1049, StoreMissing, False),
        (1114, StoreFull, True),
        (1146, StoreMissing, False),
        (1203, StoreUnavailable, True),
        (1290, StoreReadOnly, False),
        (1836, StoreReadOnly, False),
        (1927, StoreUnavailable, True),
        (2003, StoreUnavailable, True),
        (2006, StoreUnavailable, True),
        (9999, StoreError, False),
    ],
)
def test_errors_of_the_server_have_their_kinds(number: int, kind: type[StoreError], transient: bool) -> None:
    error = converted(errors.OperationalError(number, "said so"), "the store")
    assert type(error) is kind
    assert kind.transient is transient
    assert "said so" in str(error)


# --- opening and refusing -------------------------------------------------------------------------------------------


async def test_many_open_a_new_namespace_at_once(server: Server) -> None:
    namespace = f"t_{uuid4().hex[:12]}"

    async def open_one(number: int) -> None:
        async with MySQLTaskStore(server.url(), namespace=namespace, pool_max=1) as store:
            await store.apply(jobs(1, f"{number}-"))

    async with anyio.create_task_group() as group:
        for number in range(12):
            group.start_soon(open_one, number)
    async with MySQLTaskStore(server.url(), namespace=namespace, create=False) as store:
        assert len((await store.apply(TakeDump())).jobs) == 12
        await store.drop()


async def test_a_migration_that_broke_off_is_run_again(server: Server) -> None:
    namespace = f"t_{uuid4().hex[:12]}"
    script = schema_sql(namespace)
    first = script[script.index("CREATE TABLE") : script.index(";")]
    server.admin(first)
    with pytest.raises(StoreMissing):
        async with MySQLTaskStore(server.url(), namespace=namespace, create=False):
            pass
    async with opened(server, namespace=namespace) as store:
        await store.apply(jobs(1))
        assert await store.check() == []


async def test_the_schema_printed_is_the_schema_made(server: Server, store: MySQLTaskStore) -> None:
    namespace, printed = store.url.rpartition("=")[2], f"t_{uuid4().hex[:12]}"
    body = "\n".join(line for line in schema_sql(printed).splitlines() if not line.startswith("--"))
    server.admin(*[statement for statement in body.split(";\n") if statement.strip()])
    for table in ("meta", "pause", "claim", "job"):
        made, shown = [
            server.admin(f"SHOW CREATE TABLE {name}_{table}")[0][1].replace(name, "") for name in (namespace, printed)
        ]
        assert made == shown
    async with opened(server, namespace=printed, create=False) as other:
        assert await other.check() == []


async def test_schemas_of_other_versions_are_refused(server: Server, store: MySQLTaskStore) -> None:
    namespace = store.url.rpartition("=")[2]
    server.admin(f"UPDATE {namespace}_meta SET schema_version = 99")
    with pytest.raises(SchemaTooNew):
        await store.another().__aenter__()
    server.admin(f"UPDATE {namespace}_meta SET schema_version = 0")
    with pytest.raises(SchemaTooOld):
        await MySQLTaskStore(server.url(), namespace=namespace, read_only=True).__aenter__()
    async with user(server, f"SELECT, INSERT, UPDATE, DELETE ON {server.database}.*") as url:
        with pytest.raises(SchemaTooOld):
            await MySQLTaskStore(url, namespace=namespace).__aenter__()
    async with MySQLTaskStore(server.url(), namespace=namespace) as migrated:
        assert (await migrated.facts())["schema_version"] == 1


@asynccontextmanager
async def user(server: Server, *rights: str, limits: str = "") -> AsyncGenerator[str]:
    """The address for a new user with these rights."""
    name, word = f"u{uuid4().hex[:10]}", "geheim päss %41"
    server.admin(f"CREATE USER '{name}'@'%' IDENTIFIED BY '{word}' {limits}")
    for right in rights:
        server.admin(f"GRANT {right} TO '{name}'@'%'")
    try:
        yield server.url(user=name, password=word)
    finally:
        server.admin(f"DROP USER '{name}'@'%'")


async def test_a_password_beyond_latin_1_is_understood(server: Server) -> None:
    async with (
        user(server, f"ALL ON {server.database}.*") as url,
        MySQLTaskStore(url, namespace=f"t_{uuid4().hex[:12]}") as store,
    ):
        await store.apply(jobs(1))
        await store.drop()


async def test_refusals_and_outages_are_told_apart(server: Server) -> None:
    async def problem_of(url: str, **given: Any) -> StoreError:
        with pytest.raises(StoreError) as caught:
            await MySQLTaskStore(url, **given).__aenter__()
        assert caught.value.applied == "no"
        assert server.password not in str(caught.value)
        assert "%41" not in str(caught.value)
        return caught.value

    nowhere = f"mysql://u:p%40ss@127.0.0.1:1/{server.database}"
    assert isinstance(await problem_of(nowhere), StoreUnavailable)
    assert isinstance(await problem_of(server.url(password="wrong")), StoreRefused)
    assert isinstance(await problem_of(server.url().rpartition("/")[0] + "/nobody"), StoreMissing)
    assert isinstance(await problem_of(server.url(), namespace="t_nobody", create=False), StoreMissing)
    assert isinstance(await problem_of(server.url() + "?sslmode=require"), StoreRefused)
    async with user(server, f"SELECT ON {server.database}.*") as url:
        assert isinstance(await problem_of(url, namespace="t_nobody"), StoreRefused)
    limits = "WITH MAX_USER_CONNECTIONS 1"
    async with (
        user(server, f"ALL ON {server.database}.*", limits=limits) as url,
        MySQLTaskStore(url, namespace=f"t_{uuid4().hex[:12]}", pool_max=1) as store,
    ):
        await store.apply(jobs(1))
        full = await problem_of(url, namespace=store.url.rpartition("=")[2])
        assert isinstance(full, StoreUnavailable)
        await store.drop()


async def test_without_rights_to_write_ops_are_refused(server: Server, store: MySQLTaskStore) -> None:
    namespace = store.url.rpartition("=")[2]
    async with user(server, f"SELECT ON {server.database}.*") as url, MySQLTaskStore(url, namespace=namespace) as weak:
        await weak.apply(Count())
        with pytest.raises(StoreRefused) as caught:
            await weak.apply(jobs(1))
        assert caught.value.applied == "no"
    async with MySQLTaskStore(server.url(), namespace=namespace, read_only=True) as reading:
        with pytest.raises(StoreReadOnly):
            await reading.apply(jobs(1))


async def test_tables_that_are_gone_are_missed(server: Server) -> None:
    async with MySQLTaskStore(server.url(), namespace=f"t_{uuid4().hex[:12]}") as store:
        await store.drop()
        with pytest.raises(StoreMissing):
            await store.apply(jobs(1))


# --- what is kept ---------------------------------------------------------------------------------------------------

TEXTS = [
    "a",
    "A",
    "a ",
    "á",
    "a\u0301",
    "ß",
    "ss",
    "𝄞",
    "𝄟",
    "'",
    "\\",
    '"',
    "%s",
    "$1",
    "{}",
    "-- x",
    "\\'; DROP TABLE",
]


async def test_names_are_kept_and_told_apart_by_code_point(store: MySQLTaskStore) -> None:
    specs = [
        Spec(text, text, text, text.encode(), unique=UniqueKey(text), tags=((text, text),), trace=text)
        for text in TEXTS
    ]
    await store.apply(Enqueue(tuple(specs)))
    for text in TEXTS:
        answer = await store.apply(Exchange(text, f"claim {text}", 50, (text,), (text,), LEASE_US))
        assert [job.spec for job in answer.claimed] == [specs[TEXTS.index(text)]]
    dump = await store.apply(TakeDump())
    assert [job.spec for job in dump.jobs] == specs
    assert [key for key, _ in dump.keys] == sorted(TEXTS)


async def test_bytes_are_kept(store: MySQLTaskStore) -> None:
    every = bytes(range(256)) * 3
    await store.apply(Enqueue((Spec("b", "t", "q", every), Spec("e", "t", "q", b""))))
    taken = (await store.apply(claim("c", 5))).claimed
    assert [job.spec.payload for job in taken] == [every, b""]
    ends = tuple([Settlement(job.id, job.fence, Verb.SUCCEED, every[::-1]) for job in taken])
    await store.apply(claim("d", 0, ends))
    for job in await store.apply(Load(("b", "e"))):
        assert job is not None
        assert job.life.end is not None
        assert job.life.end.result == every[::-1]


async def test_what_no_column_holds_is_refused_by_name(store: MySQLTaskStore) -> None:
    with pytest.raises(InvalidValue):
        await store.apply(Load(("\ud800",)))
    with pytest.raises(InvalidValue):
        await store.apply(Load(("\udc80' OR '1'='1",)))
    await store.apply(jobs(1))
    with pytest.raises(InvalidValue):
        await store.apply(claim("c" * 300, 1))


async def test_a_server_that_is_set_up_strangely_changes_nothing(private_server: Callable[..., Server]) -> None:
    """Another sql_mode, isolation, character set and packet size than ours, and no autocommit."""
    strange = private_server(
        "mariadb",
        sql_mode="ANSI,NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT,NO_ZERO_DATE",
        transaction_isolation="SERIALIZABLE",
        character_set_server="latin1",
        autocommit="0",
        max_allowed_packet="1M",
        max_statement_time="0.5",
    )
    async with opened(strange) as store:
        texts = ["back\\slash", "quo'te", 'double"quote', "𝄞"]
        specs = [Spec(text, text, "q", text.encode(), tags=((text, text),)) for text in texts]
        await store.apply(Enqueue(tuple(specs)))
        assert [job.spec for job in (await store.apply(TakeDump())).jobs] == specs
        big = [Spec(f"big{number}", "t", "big", bytes(200_000)) for number in range(20)]
        await store.apply(Enqueue(tuple(big)))
        assert len((await store.apply(Find(queue="big", limit=500))).jobs) == 20
        with pytest.raises(StoreError, match="max_allowed_packet") as caught:
            await store.apply(Enqueue((Spec("huge", "t", "q", bytes(900_000)),)))
        assert caught.value.applied == "no"
        await store.apply(jobs(1))


async def test_store_time_is_the_servers_clock_in_utc(server: Server, store: MySQLTaskStore) -> None:
    ((before,),) = server.admin("SELECT CAST(unix_timestamp(now(6)) * 1000000 AS SIGNED)")
    now = (await store.apply(Count())).now
    ((after,),) = server.admin("SELECT CAST(unix_timestamp(now(6)) * 1000000 AS SIGNED)")
    assert before <= now <= after


async def test_sequence_numbers_are_dense_whatever_fails(store: MySQLTaskStore) -> None:
    await store.apply(jobs(3))
    await store.apply(jobs(3))  # known
    for _ in range(3):
        with pytest.raises(InvalidValue):
            await store.apply(Enqueue((Spec("x", "t", "q", b"", priority=1 << 20),)))
    await store.apply(jobs(2, "k"))
    assert [job.seq for job in (await store.apply(TakeDump())).jobs] == [1, 2, 3, 4, 5]


async def test_aging_is_kept_and_ranks_are_rewritten(server: Server, store: MySQLTaskStore) -> None:
    namespace = store.url.rpartition("=")[2]
    await store.apply(Enqueue((Spec("low", "t", "q", b""), Spec("high", "t", "q", b"", priority=1))), at=SECOND)
    async with MySQLTaskStore(server.url(), namespace=namespace, aging="1s") as aged:
        assert (await aged.apply(Maintain(LEASE_US), at=SECOND)).reranked == 2
        assert (await aged.facts())["aging_us"] == SECOND
        assert await aged.check() == []
    async with MySQLTaskStore(server.url(), namespace=namespace, aging=1) as same:
        assert (await same.apply(Maintain(LEASE_US), at=SECOND)).reranked == 0


async def test_listeners_of_this_process_are_told(store: MySQLTaskStore) -> None:
    async with store.another() as other, store.listen(("q",)) as queue, store.listen(()) as ends:
        with anyio.fail_after(5):
            await other.apply(jobs(1))
            await queue.wait()
            await other.apply(CancelJobs(("j00000",)))
            await ends.wait()


async def test_facts_check_and_drop(server: Server) -> None:
    async with opened(server) as store:
        namespace = store.url.rpartition("=")[2]
        await store.apply(jobs(4, unique=None))
        await store.apply(claim("c", 2))
        await store.apply(PauseQueue("q"))
        await store.apply(ResumeQueue("q"))
        facts = await store.facts()
        assert facts["server_version"].startswith("10.11")
        assert (facts["jobs"], facts["schema_version"], facts["pool_max"]) == (4, 1, 10)
        assert await store.check() == []
        server.admin(f"UPDATE {namespace}_job SET rank_a = 9 WHERE id = 'j00003'", f"DELETE FROM {namespace}_claim")
        wrong = await store.check()
        assert [each for each in wrong if "j00003" in each and "rank" in each]
        assert [each for each in wrong if "j00000" in each and "claim" in each]
        server.admin(f"DROP INDEX job_due ON {namespace}_job")
        assert await store.check() == [f"the index job_due of {namespace}_job is missing; it was dropped by someone"]
        await store.drop()
        left = f"SELECT count(*) FROM information_schema.tables WHERE table_name LIKE '{namespace}%'"
        assert server.admin(left) == [(0,)]


# --- addresses and TLS ----------------------------------------------------------------------------------------------


def test_an_address_is_read_whole_and_shown_without_its_password() -> None:
    address = parsed("mariadb://us%40er:p%3A%2F%40ss@db.example:3307/shop?namespace=jobs&pool=3&sslmode=verify-ca")
    assert (address.user, address.password, address.host, address.port) == ("us@er", "p:/@ss", "db.example", 3307)
    assert (address.database, address.namespace, address.pool_max) == ("shop", "jobs", 3)
    assert address.url == "mysql://us%40er@db.example:3307/shop?namespace=jobs"
    assert "p:/@ss" not in repr(address)
    assert not address.local
    assert parsed("mysql://u@[::1]/d").local
    assert parsed("mysql://u@%2Frun%2Fsocket/d").socket == "/run/socket"


@pytest.mark.parametrize(
    "url",
    [
        "mysql://host",
        "mysql://host/",
        "mysql://host/a/b",
        "mysql://host:0/d",
        "mysql://host:port/d",
        "mysql://a,b/d",
        "mysql://h/d#f",
        "mysql://h/d?namespace=Up",
        "mysql://h/d?namespace=a-b",
        "mysql://h/d?pool=0",
        "mysql://h/d?pool=1&pool=2",
        "mysql://h/d?sslmode=maybe",
        "mysql://h/d?socket=",
        "postgres://h/d",
    ],
)
def test_wrong_addresses_are_refused(url: str) -> None:
    with pytest.raises(InvalidStoreUrl):
        MySQLTaskStore(url)


def test_an_unknown_parameter_is_named_with_the_nearest() -> None:
    with pytest.raises(UnknownOption, match="namespace"):
        MySQLTaskStore("mysql://u:secret@h/d?namespce=x")
    with pytest.raises(InvalidValue):
        MySQLTaskStore("mysql://h/d", namespace="A")
    with pytest.raises(InvalidValue):
        MySQLTaskStore("mysql://h/d", pool_max=0)


def certificates(folder: Path) -> tuple[str, str]:
    """A certificate for the name `localhost`, which signs itself, and its key."""
    made = [str(folder / name) for name in ("cert.pem", "key.pem")]
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost", "-out", made[0], "-keyout", made[1]),
        ],
        check=True,
        capture_output=True,
    )
    return made[0], made[1]


async def test_tls_is_verified_as_the_address_says(private_server: Callable[..., Server], tmp_path: Path) -> None:
    cert, key = certificates(tmp_path)
    server = private_server("mariadb", ssl_cert=cert, ssl_key=key)
    server.admin("CREATE USER 'safe'@'%' IDENTIFIED BY 'word' REQUIRE SSL", "GRANT ALL ON *.* TO 'safe'@'%'")
    numbered = server.url(user="safe", password="word")
    plain = numbered.replace("127.0.0.1", "localhost")
    trusted = f"sslrootcert={quote(cert, safe='')}"
    for good in ("sslmode=require", f"sslmode=verify-ca&{trusted}", f"sslmode=verify-full&{trusted}"):
        async with MySQLTaskStore(f"{plain}?{good}") as store:
            await store.apply(PauseQueue(good[:40]))
    async with MySQLTaskStore(f"{numbered}?sslmode=verify-ca&{trusted}") as store:
        await store.apply(Count())
    for bad in (
        f"{plain}?sslmode=disable",
        f"{plain}?sslmode=verify-full",  # signed by nobody whom this machine trusts
        f"{numbered}?sslmode=verify-full&{trusted}",  # another name
        f"{plain}?sslmode=verify-ca&sslrootcert=/nowhere.pem",
    ):
        with pytest.raises(StoreRefused):
            await MySQLTaskStore(bad).__aenter__()
    remote = evolve(parsed("mysql://db.example/d"))
    context = remote.tls()
    assert context is not None
    assert context.check_hostname, "a host that is not this machine is verified without being asked to"
    assert parsed("mysql://127.0.0.1/d").tls() is None
