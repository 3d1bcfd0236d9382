"""What is PostgreSQL's own: its address, schema and rights, its wake-ups, its dead rows, what it says of itself."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import anyio
import pytest
from servers import Server

from taskweave.core.ids import SECOND
from taskweave.core.job import Spec, State, Verb
from taskweave.core.verbs import (
    Claimed,
    Count,
    Enqueue,
    Exchange,
    Find,
    Load,
    Maintain,
    PauseQueue,
    Settlement,
    TakeDump,
)
from taskweave.exceptions import (
    InvalidStoreUrl,
    InvalidValue,
    NotAStore,
    NotOpen,
    SchemaTooNew,
    SchemaTooOld,
    StoreMissing,
    StoreReadOnly,
    StoreRefused,
    UnknownOption,
)

pytest.importorskip("asyncpg")

from taskweave.stores._postgres import notices as notices_module
from taskweave.stores._postgres.address import parsed
from taskweave.stores._postgres.errors import converted
from taskweave.stores._postgres.heads import READ_MAX, Heads
from taskweave.stores._postgres.notices import QUEUES_MAX, said
from taskweave.stores._postgres.pool import tls
from taskweave.stores.postgres import PostgresTaskStore, schema_sql
from taskweave.testing.pair import LEASE_US as PAIR_LEASE_US
from taskweave.testing.pair import Pair

pytestmark = pytest.mark.anyio

LEASE_US = 30 * SECOND


def job(**given: Any) -> Spec:
    return Spec(**({"id": str(uuid4()), "task": "t", "queue": "q", "payload": b"[[],{}]"} | given))


def claim(want: int = 10, settle: tuple[Settlement, ...] = (), claim_id: str | None = None) -> Exchange:
    return Exchange("m", claim_id or str(uuid4()), want, ("q",), ("t",), LEASE_US, settle)


def ended(jobs: tuple[Claimed, ...]) -> tuple[Settlement, ...]:
    return tuple([Settlement(each.id, each.fence, Verb.SUCCEED, b"1") for each in jobs])


@pytest.fixture
def server(shared_server: Callable[[str], Server]) -> Server:
    return shared_server("postgres")


@pytest.fixture
def namespace() -> str:
    return f"own_{uuid4().hex[:16]}"


@pytest.fixture
async def store(server: Server, namespace: str) -> AsyncIterator[PostgresTaskStore]:
    async with made(server, namespace) as store:
        yield store


@asynccontextmanager
async def made(server: Server, namespace: str, **options: Any) -> AsyncIterator[PostgresTaskStore]:
    async with PostgresTaskStore(server.url(namespace), **options) as store:
        try:
            yield store
        finally:
            with anyio.CancelScope(shield=True):
                await store.drop()


# --- its address ----------------------------------------------------------------------------------------------------


def test_an_address_is_read_whole() -> None:
    address = parsed("postgresql://an%40a:p%2F%3A%25w@[::1]:6000/my%20db?namespace=ns&pool=3&pgbouncer=yes")
    assert (address.user, address.password, address.host, address.port) == ("an@a", "p/:%w", "::1", 6000)
    assert (address.database, address.namespace, address.pool_max, address.pooler) == ("my db", "ns", 3, True)
    assert address.local
    assert address.url == "postgres://an%40a@[::1]:6000/my%20db?namespace=ns"
    assert "p/:%w" not in repr(address)


def test_a_socket_is_a_folder() -> None:
    for url in ("postgres://u@%2Frun%2Fpg/db", "postgres://u@/db?host=/run/pg"):
        address = parsed(url)
        assert address.host == "/run/pg"
        assert address.local


@pytest.mark.parametrize(
    "url",
    [
        "http://h/db",
        "postgres://h:0/db",
        "postgres://h:port/db",
        "postgres://a,b/db",
        "postgres://[::1/db",
        "postgres://h/db/more",
        "postgres://h/db#x",
        "postgres://h/db?namespace=Upper",
        "postgres://h/db?namespace=a%22b",
        "postgres://h/db?namespace=pg_mine",
        "postgres://h/db?pool=0",
        "postgres://h/db?pool=3&pool=4",
        "postgres://h/db?sslmode=sometimes",
        "postgres://h/db?pgbouncer=perhaps",
        "postgres://h/db?namespace",
    ],
)
def test_a_wrong_address_is_refused(url: str) -> None:
    with pytest.raises(InvalidStoreUrl):
        PostgresTaskStore(url)


def test_an_unknown_parameter_names_the_nearest() -> None:
    with pytest.raises(UnknownOption) as caught:
        PostgresTaskStore("postgres://u:secret@h/db?namespaec=x")
    assert caught.value.nearest == "namespace"
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("namespace", ["", "1a", "a" * 42, 'a"; DROP TABLE x; --', "pg_x", "information_schema"])
def test_a_namespace_is_a_plain_name(namespace: str) -> None:
    with pytest.raises(InvalidValue):
        PostgresTaskStore("postgres://h/db", namespace=namespace)
    with pytest.raises(InvalidValue):
        schema_sql(namespace)


@pytest.mark.parametrize(
    ("url", "verifies"),
    [
        ("postgres://localhost/db", "prefer"),
        ("postgres://127.0.0.1/db", "prefer"),
        ("postgres://db.example/db?sslmode=prefer", "prefer"),
        ("postgres://db.example/db?sslmode=disable", False),
    ],
)
def test_tls_without_a_check_is_for_this_machine_or_asked_for(url: str, verifies: object) -> None:
    assert tls(parsed(url)) == verifies


def test_tls_is_checked_by_default() -> None:
    context = tls(parsed("postgres://db.example/db"))
    assert context.check_hostname
    assert context.verify_mode.name == "CERT_REQUIRED"
    assert not tls(parsed("postgres://db.example/db?sslmode=verify-ca")).check_hostname
    assert tls(parsed("postgres://db.example/db?sslmode=require")).verify_mode.name == "CERT_NONE"


async def test_a_store_that_is_not_open_says_so() -> None:
    with pytest.raises(NotOpen):
        await PostgresTaskStore("postgres://h/db").apply(Count())


# --- its schema -----------------------------------------------------------------------------------------------------


async def test_many_open_a_new_namespace_at_once(server: Server, namespace: str) -> None:
    versions: list[Any] = []

    async def open_one() -> None:
        async with PostgresTaskStore(server.url(namespace), pool_max=2) as store:
            versions.append((await store.facts())["schema_version"])

    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(open_one)
    async with made(server, namespace) as store:
        assert len(set(versions)) == 1
        assert await store.check() == []


async def test_two_namespaces_know_nothing_of_each_other(server: Server, namespace: str) -> None:
    async with made(server, namespace) as one, made(server, f"{namespace}_b") as other:
        await one.apply(Enqueue((job(id="same"),)))
        assert await other.apply(Load(("same",))) == (None,)
        assert (await other.apply(claim())).claimed == ()


async def test_dropping_leaves_what_others_put_there(server: Server, namespace: str) -> None:
    async with made(server, namespace):
        server.admin(f'CREATE TABLE "{namespace}".theirs (n integer)')
    assert server.admin(f'SELECT count(*) FROM "{namespace}".theirs') == [(0,)]
    with pytest.raises(StoreMissing):
        async with PostgresTaskStore(server.url(namespace), create=False):
            pytest.fail("it is gone")
    server.admin(f'DROP SCHEMA "{namespace}" CASCADE')


async def test_the_script_of_the_schema_makes_a_store(server: Server, namespace: str) -> None:
    server.admin(f"DO $do$ BEGIN {''} END $do$")  # the user may run scripts
    await run_script(server, schema_sql(namespace))
    async with made(server, namespace, create=False) as store:
        assert await store.check() == []
        await store.apply(Enqueue((job(),)))


async def run_script(server: Server, script: str) -> None:
    import asyncio

    import asyncpg

    async def run() -> None:
        at = {"host": server.host, "port": server.port, "user": server.user, "password": server.password}
        connection = await asyncpg.connect(**at, database=server.database)
        await connection.execute(script)
        await connection.close()

    await anyio.to_thread.run_sync(lambda: asyncio.run(run()))


async def test_a_schema_of_another_version_is_not_touched(server: Server, namespace: str) -> None:
    async with made(server, namespace):
        server.admin(f'UPDATE "{namespace}".meta SET schema_version = 99')
        with pytest.raises(SchemaTooNew):
            async with PostgresTaskStore(server.url(namespace)):
                pytest.fail("it is too new")
        server.admin(f'UPDATE "{namespace}".meta SET schema_version = 1')
        with pytest.raises(SchemaTooOld):
            async with PostgresTaskStore(server.url(namespace), read_only=True):
                pytest.fail("it is too old")


async def test_tables_of_another_program_are_not_taken_for_a_store(server: Server, namespace: str) -> None:
    server.admin(f'CREATE SCHEMA "{namespace}"', f'CREATE TABLE "{namespace}".job (n integer)')
    with pytest.raises(NotAStore):
        async with PostgresTaskStore(server.url(namespace)):
            pytest.fail("it is another's")
    server.admin(f'DROP SCHEMA "{namespace}" CASCADE')


async def test_an_empty_schema_that_is_there_becomes_a_store(server: Server, namespace: str) -> None:
    server.admin(f'CREATE SCHEMA "{namespace}"')
    async with made(server, namespace) as store:
        assert await store.check() == []


async def test_unlogged_tables_are_refused(server: Server, namespace: str) -> None:
    async with made(server, namespace):
        server.admin(f'ALTER TABLE "{namespace}".job SET UNLOGGED')
        with pytest.raises(NotAStore, match="UNLOGGED"):
            async with PostgresTaskStore(server.url(namespace)):
                pytest.fail("a crash would empty it")


async def test_who_may_not_create_is_told_so(server: Server, namespace: str) -> None:
    server.admin(f"CREATE ROLE {namespace} LOGIN PASSWORD 'word'")
    try:
        with pytest.raises(StoreRefused, match="may not create"):
            async with PostgresTaskStore(server.url(namespace, user=namespace, password="word")):
                pytest.fail("it has no right to")
    finally:
        server.admin(f"DROP ROLE {namespace}")


async def test_a_store_that_is_only_read_writes_nothing(
    store: PostgresTaskStore, server: Server, namespace: str
) -> None:
    await store.apply(Enqueue((job(id="one"),)))
    async with PostgresTaskStore(server.url(namespace), read_only=True) as reader:
        assert (await reader.apply(Find())).jobs[0].id == "one"
        with pytest.raises(StoreReadOnly):
            await reader.apply(PauseQueue("q"))


async def test_the_aging_setting_is_kept_and_the_order_rewritten(server: Server, namespace: str) -> None:
    async with made(server, namespace) as store:
        await store.apply(Enqueue(tuple([job(priority=n) for n in range(5)])))
        async with PostgresTaskStore(server.url(namespace), aging=60) as aged:
            assert (await aged.facts())["aging_us"] == 60 * SECOND
            answer = await aged.apply(Maintain(LEASE_US))
            assert answer.reranked == 5
            assert await aged.check() == []
        async with PostgresTaskStore(server.url(namespace)) as again:
            assert (await again.facts())["aging_us"] == 60 * SECOND


# --- what it says of itself -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lie", "said"),
    [
        ("UPDATE {}.job SET fragile = 1 WHERE state = 1", "fragile"),
        ("UPDATE {}.job SET rank_a = 77 WHERE state = 1", "rank"),
        ("UPDATE {}.job SET lease_until = NULL WHERE state = 2", "lease"),
        ("UPDATE {}.job SET chore_at = 1 WHERE state = 3", "chore"),
        ("UPDATE {}.job SET keep_us = 1 WHERE state = 1", "spans"),
        ("UPDATE {}.job SET aside = 1 WHERE state = 1", "set aside"),
        ("UPDATE {}.job SET spec_rest = 'no json' WHERE state = 3", "cannot be read"),
        ("DELETE FROM {}.claim", "under claim"),
        ("DROP INDEX {}.job_ready", "job_ready is missing"),
        ("DROP FUNCTION {}.enqueue", "enqueue is missing"),
        (
            "CREATE FUNCTION {}.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW;END'; "
            "CREATE TRIGGER spy BEFORE UPDATE ON {}.job FOR EACH ROW EXECUTE FUNCTION {}.f()",
            "the trigger spy",
        ),
    ],
)
async def test_a_lie_in_the_tables_is_found(
    store: PostgresTaskStore, server: Server, namespace: str, lie: str, said: str
) -> None:
    await store.apply(Enqueue(tuple([job() for _ in range(3)])))
    (one,) = (await store.apply(claim(1))).claimed
    await store.apply(claim(1, ended((one,))))
    assert await store.check() == []
    server.admin(*lie.replace("{}", f'"{namespace}"').split("; "))
    assert [problem for problem in await store.check() if said in problem]


async def test_facts_say_what_survives_and_how_the_pool_is_used(store: PostgresTaskStore, server: Server) -> None:
    await store.apply(Enqueue((job(),)))
    facts = await store.facts()
    assert facts["jobs"] == 1
    assert facts["survives"] == ("process crash" if server.ours else facts["survives"])
    assert facts["pool_used_most"] >= 1
    assert server.password not in str(facts)


def test_what_the_client_cannot_send_is_bad_input() -> None:
    import asyncpg

    assert isinstance(converted(asyncpg.exceptions.DataError("no"), "store"), InvalidValue)
    assert isinstance(converted(asyncpg.exceptions.CharacterNotInRepertoireError("NUL"), "store"), InvalidValue)


# --- many at once ---------------------------------------------------------------------------------------------------


async def test_sixteen_clients_claim_every_job_once(store: PostgresTaskStore) -> None:
    for _ in range(4):
        await store.apply(Enqueue(tuple([job(priority=n % 3) for n in range(100)])))
    taken: list[str] = []

    async def work(client: PostgresTaskStore) -> None:
        done: tuple[Settlement, ...] = ()
        while True:
            answer = await client.apply(claim(7, done))
            assert answer.refused == ()
            taken.extend(each.id for each in answer.claimed)
            done = ended(answer.claimed)
            if not done:
                return

    async with store.another() as second, anyio.create_task_group() as group:
        for number in range(16):
            group.start_soon(work, second if number % 2 else store)
    assert len(taken) == len(set(taken)) == 400
    assert await store.check() == []


async def test_a_claim_that_is_sent_twice_at_once_is_one_claim(store: PostgresTaskStore) -> None:
    await store.apply(Enqueue(tuple([job() for _ in range(40)])))
    answers: list[tuple[str, ...]] = []

    async def send(id: str) -> None:
        answers.append(tuple(sorted(each.id for each in (await store.apply(claim(5, claim_id=id))).claimed)))

    async with anyio.create_task_group() as group:
        for number in range(4):
            for _ in range(3):
                group.start_soon(send, f"claim-{number}")
    assert len(set(answers)) == 4
    dump = await store.apply(TakeDump())
    assert sum(each.state is State.RUNNING for each in dump.jobs) == 20
    assert await store.check() == []


async def test_opposite_orders_of_one_set_of_jobs_do_not_reach_the_user(store: PostgresTaskStore) -> None:
    """Settlements and cancels of the same jobs, in both directions at once: whoever gives way is repeated."""
    from taskweave.core.verbs import CancelJobs

    for _ in range(5):
        specs = tuple([job() for _ in range(30)])
        await store.apply(Enqueue(specs))
        claimed = (await store.apply(claim(30))).claimed
        ids = tuple([each.id for each in claimed])
        async with anyio.create_task_group() as group:
            group.start_soon(store.apply, claim(0, ended(claimed)))
            group.start_soon(store.apply, CancelJobs(ids[::-1]))
            group.start_soon(store.apply, claim(0, ended(claimed[::-1])))
            group.start_soon(store.apply, CancelJobs(ids))
    assert await store.check() == []


async def test_a_storm_of_cancellations_leaves_no_transaction_open(
    store: PostgresTaskStore, server: Server, namespace: str
) -> None:
    async def hurried(number: int) -> None:
        with anyio.move_on_after(0.0005 * (number % 20)):
            if number % 3:
                await store.apply(Find(limit=50))
            else:
                await store.apply(Enqueue((job(),)))

    for _ in range(5):
        async with anyio.create_task_group() as group:
            for number in range(40):
                group.start_soon(hurried, number)
    await store.apply(Count())
    url = store.url
    assert url
    opened: Any = store._opened
    pids = ", ".join(str(each.get_server_pid()) for each in opened.session.pool._idle)
    states = server.admin(f"SELECT DISTINCT state FROM pg_stat_activity WHERE pid IN ({pids})")
    assert states == [("idle",)]
    assert not opened.session.pool._used
    assert opened.places.used == 0


async def test_fragile_jobs_of_all_tasks_share_one_budget(store: PostgresTaskStore) -> None:
    """Each of these has lost a worker, and the next loss would be its last: a worker holds one such job."""
    tasks = ("t1", "t2", "t3")
    pair = Pair(store)
    for task in tasks:
        await pair.add(task=task, max_lost=2)
    await pair.claim(3, tasks=tasks)
    pair.passes(PAIR_LEASE_US)
    await pair.maintain()
    assert len(await pair.claim(3, tasks=tasks, fragile=0)) == 0
    assert len(await pair.claim(3, tasks=tasks, fragile=1)) == 1
    await pair.add(task="t1")
    assert len(await pair.claim(3, tasks=tasks, fragile=1)) == 2


# --- wake-ups -------------------------------------------------------------------------------------------------------


@pytest.mark.proves(11)
async def test_another_process_is_woken_by_a_notice(store: PostgresTaskStore, server: Server, namespace: str) -> None:
    async with (
        PostgresTaskStore(server.url(namespace)) as far,
        far.listen(("q",)) as queue,
        far.listen(("other",)) as other,
        far.listen(()) as ends,
    ):
        with anyio.fail_after(10):  # each is woken once when it begins to hear
            for each in (queue, other, ends):
                await each.wait()
        await store.apply(Enqueue((job(),)))
        with anyio.fail_after(10):
            await queue.wait()
        with anyio.move_on_after(0.05) as nothing:
            await other.wait()
        assert nothing.cancelled_caught
        claimed = (await store.apply(claim(1))).claimed
        await store.apply(claim(0, ended(claimed)))
        with anyio.fail_after(10):
            await ends.wait()
        assert (await far.facts())["notices_heard"] >= 2


async def test_what_a_hundred_writes_have_to_say_is_said_in_few_notices(store: PostgresTaskStore) -> None:
    for _ in range(100):
        await store.apply(Enqueue((job(),)))
    assert (await store.facts())["notices_said"] < 60


async def test_a_producer_that_leaves_at_once_is_still_heard(
    store: PostgresTaskStore, server: Server, namespace: str
) -> None:
    async with store.listen(("q",)) as wakeups:
        with anyio.fail_after(10):
            await wakeups.wait()
        async with PostgresTaskStore(server.url(namespace)) as producer:
            await producer.apply(Enqueue((job(),)))
        with anyio.fail_after(10):
            await wakeups.wait()


async def test_a_listening_connection_that_is_killed_comes_back(
    store: PostgresTaskStore, server: Server, namespace: str
) -> None:
    async with store.listen(("q",)) as wakeups, PostgresTaskStore(server.url(namespace)) as far:
        with anyio.fail_after(10):
            await wakeups.wait()
            notices: Any = store._opened.session.notices  # type: ignore[union-attr]
            server.admin(f"SELECT pg_terminate_backend({notices._pid})")
            await wakeups.wait()  # something may have been missed
            heard = notices.heard
            while notices.heard == heard:  # until the new connection hears
                await far.apply(Enqueue((job(),)))
                await anyio.sleep(0.01)


async def test_where_notices_do_not_come_through_it_is_said_once(
    store: PostgresTaskStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(notices_module, "PROBE_WITHIN_S", 0.05)
    monkeypatch.setattr(notices_module.Notices, "_on_notice", lambda *_: None)
    with caplog.at_level(logging.WARNING, "taskweave.store"):
        async with store.listen(("q",)) as wakeups:
            with anyio.fail_after(10):
                await wakeups.wait()
        async with store.listen(("q",)):
            await store.apply(Enqueue((job(),)))
    assert [record.message for record in caplog.records if "do not come through" in record.message]
    assert (await store.facts())["wake_ups"] == "none"


def test_a_notice_is_never_longer_than_the_server_takes() -> None:
    marks = {f"{number:08x}" for number in range(10_000)}
    assert said({*marks, "!"}) == "! *"
    assert len(said(set(list(marks)[:QUEUES_MAX]))) < 8_000


# --- dead rows ------------------------------------------------------------------------------------------------------


def test_places_are_kept_only_while_dead_rows_are_many() -> None:
    heads = Heads()
    lane, place, farther = ("q", "t"), (0, 10, 1), (0, 20, 2)
    heads.read(False, READ_MAX, [(lane, place)], 1.0, 0.01)
    assert heads.begin(1.1) == {}
    heads.read(False, READ_MAX + 1, [(lane, place)], 0.0, 0.01)
    heads.read(False, READ_MAX + 1, [(lane, place)], 1.9, 0.01)
    assert heads.begin(1.95) == {}  # it may pass by itself
    heads.read(False, READ_MAX + 1, [(lane, place)], 2.0, 0.01)
    assert heads.begin(2.1) == {lane: place}
    heads.read(True, 5, [(lane, farther)], 2.2, 0.01)
    assert heads.begin(2.9) == {lane: farther}
    assert heads.begin(3.0) == {}  # it is time to look from the beginning
    heads.read(False, 5, [], 3.0, 0.01)
    assert heads.begin(3.1) == {}


def test_a_long_look_is_taken_rarely() -> None:
    heads = Heads()
    heads.read(False, 10**6, [(("q", "t"), (0, 1, 1))], 50.0, 0.5)
    heads.read(False, 10**6, [(("q", "t"), (0, 1, 1))], 100.0, 0.5)
    assert heads.begin(109.9)
    assert not heads.begin(110.1)


async def test_claims_do_not_read_what_a_held_snapshot_keeps(
    store: PostgresTaskStore, server: Server, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the places, the last claim would read an entry for each job that was claimed since."""
    monkeypatch.setattr("taskweave.stores._postgres.heads.PERSISTS_S", 0.0)  # the test need not last so long
    jobs, batch = READ_MAX + 1_500, 500
    for _ in range(0, jobs, batch):
        await store.apply(Enqueue(tuple([job() for _ in range(batch)])))
    async with PostgresTaskStore(server.url(namespace)) as holder, holder.transaction() as held:
        await held.execute("DECLARE snapshot CURSOR FOR SELECT 1")  # its snapshot stays until the end
        await held.fetch("SELECT 1")
        reads: list[int] = []
        opened: Any = store._opened
        seen = opened.session.heads.read

        def noted(began: bool, entries: int, *rest: Any) -> None:
            reads.append(entries)
            seen(began, entries, *rest)

        opened.session.heads = type("Noted", (), {"read": staticmethod(noted), **parts_of(opened.session.heads)})()
        done: tuple[Settlement, ...] = ()
        for _ in range(jobs // 50):
            done = ended((await store.apply(claim(50, done))).claimed)
            assert len(done) == 50
        assert max(reads) > READ_MAX, "there was nothing to step over"
        assert sorted(reads)[len(reads) // 2] < READ_MAX
        assert min(reads[-20:]) < 500


def parts_of(heads: Heads) -> dict[str, Any]:
    return {
        "begin": staticmethod(heads.begin),
        "places": property(lambda _: heads.places),
    }
