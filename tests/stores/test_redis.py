"""What is Redis' own: its address, its data that can vanish, its memory, its scripts, and what it says of itself."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import anyio
import pytest
from attrs import evolve
from servers import Server

from taskweave.core.ids import SECOND
from taskweave.core.job import Spec, State, Verb
from taskweave.core.unique import UniqueKey
from taskweave.core.verbs import (
    Claimed,
    Count,
    DeleteJobs,
    Enqueue,
    Exchange,
    Export,
    Find,
    Load,
    Maintain,
    PauseQueue,
    Prune,
    PurgeQueue,
    Settlement,
    TakeDump,
)
from taskweave.exceptions import (
    InvalidName,
    InvalidStoreUrl,
    InvalidValue,
    NotAStore,
    NotOpen,
    SchemaTooNew,
    StoreFull,
    StoreMissing,
    StoreReadOnly,
    StoreUnavailable,
    UnknownOption,
)
from taskweave.stores._redis.inspect import survives
from taskweave.stores._redis.scripts import FOLDER, SCRIPTS
from taskweave.stores.redis import RedisTaskStore

pytestmark = pytest.mark.anyio

LEASE_US = 30 * SECOND
END_OF_TEST = "no-script-says-this"
PrivateServer = Callable[..., Server]


def job(**given: Any) -> Spec:
    return Spec(**({"id": str(uuid4()), "task": "t", "queue": "q", "payload": b"[[],{}]"} | given))


def claim(want: int = 10, queue: str = "q", task: str = "t", settle: tuple[Settlement, ...] = ()) -> Exchange:
    return Exchange("m", str(uuid4()), want, (queue,), (task,), LEASE_US, settle)


def success(taken: Claimed) -> Settlement:
    return Settlement(taken.id, taken.fence, Verb.SUCCEED, b"null")


@pytest.fixture
def server(shared_server: Callable[[str], Server]) -> Server:
    return shared_server("redis")


@pytest.fixture
def url(server: Server) -> str:
    """A namespace of the test's own."""
    return server.url(f"own_{uuid4().hex[:12]}")


# --- addresses ----------------------------------------------------------------------------------------------------


async def test_an_address_shows_no_secret() -> None:
    store = RedisTaskStore("redis://me:s%40cret@host:6380/3?namespace=mine")
    assert store.url == "redis://host:6380/3?namespace=mine"
    for text in (repr(store), repr(vars(store)), store.url):
        assert "cret" not in text
    assert RedisTaskStore("rediss://host").url == "rediss://host:6379/0?namespace=taskweave"
    assert RedisTaskStore("redis://host", namespace="other").url.endswith("?namespace=other")
    assert RedisTaskStore("redis://[::1]:7000").url.startswith("redis://[::1]:7000/")


@pytest.mark.parametrize(
    "address",
    [
        "redis://",
        "redis://host/x",
        "redis://host:99999",
        "redis://host:port",
        "redis://host#fragment",
        "redis://host?namespace=Large",
        "redis://host?namespace={x}",
        "redis://host?namespace=a&namespace=b",
        "redis://host?pool=0",
        "redis://host?cluster=yes",
        "redis://host/1?cluster=true",
        "redis://host\n",
        "http://host",
    ],
)
async def test_an_address_that_says_nothing_sensible_is_refused(address: str) -> None:
    with pytest.raises(InvalidStoreUrl):
        RedisTaskStore(address)


async def test_an_unknown_option_of_an_address_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownOption) as error:
        RedisTaskStore("redis://me:secret@host?namespac=mine")
    assert error.value.nearest == "namespace"
    assert "secret" not in str(error.value)
    for wrong in ({"namespace": "x" * 42}, {"pool_max": 0}, {"aging": "soon"}):
        with pytest.raises(InvalidValue):
            RedisTaskStore("redis://host", **wrong)  # type: ignore[arg-type]


# --- opening ------------------------------------------------------------------------------------------------------


async def test_without_create_nothing_is_made(url: str, server: Server) -> None:
    for given in ({"create": False}, {"read_only": True}):
        with pytest.raises(StoreMissing):
            async with RedisTaskStore(url, **given):  # type: ignore[arg-type]
                pass
    assert server.admin(f"EXISTS {prefix_of(url)}meta") == [0]


def prefix_of(url: str) -> str:
    return f"{{{url.rpartition('=')[2]}}}:"


async def test_a_store_that_is_not_open_says_so(url: str) -> None:
    store = RedisTaskStore(url)
    with pytest.raises(NotOpen):
        await store.apply(Count())
    async with store, store.another() as second:
        await second.apply(Enqueue((job(),)))
    with pytest.raises(NotOpen):
        await store.apply(Count())


async def test_many_open_a_new_namespace_at_once(url: str) -> None:
    async def add(number: int) -> None:
        async with RedisTaskStore(url) as store:
            await store.apply(Enqueue((job(id=f"job-{number}"),)))

    async with anyio.create_task_group() as group:
        for number in range(12):
            group.start_soon(add, number)
    async with RedisTaskStore(url) as store:
        dump = await store.apply(TakeDump())
        assert sorted(each.seq for each in dump.jobs) == list(range(1, 13))
        await store.drop()


async def test_a_read_only_store_writes_nothing(url: str) -> None:
    async with RedisTaskStore(url) as store:
        await store.apply(Enqueue((job(),)))
        async with RedisTaskStore(url, read_only=True, aging="1h") as reader:
            assert (await reader.apply(Count())).queues[0].count(State.READY) == 1
            with pytest.raises(StoreReadOnly):
                await reader.apply(Enqueue((job(),)))
            with pytest.raises(StoreReadOnly):
                await reader.drop()
            assert (await reader.facts())["aging_us"] is None
        await store.drop()


async def test_aging_is_kept_on_the_server(url: str) -> None:
    for given, kept in (("10s", 10 * SECOND), (None, 10 * SECOND), (0, None)):
        async with RedisTaskStore(url, aging=given) as store:
            assert (await store.facts())["aging_us"] == kept
    async with RedisTaskStore(url) as store:
        await store.drop()


async def test_a_newer_schema_is_refused(url: str, server: Server) -> None:
    async with RedisTaskStore(url) as store:
        server.admin(f"HSET {prefix_of(url)}meta version 99")
        with pytest.raises(SchemaTooNew, match="99"):
            async with RedisTaskStore(url):
                pass
        await store.drop()


async def test_keys_without_their_marker_are_no_store(url: str, server: Server) -> None:
    server.admin(f"ZADD {prefix_of(url)}all 1 stray")
    with pytest.raises(NotAStore):
        async with RedisTaskStore(url):
            pass
    server.admin(f"DEL {prefix_of(url)}all", f"SET {prefix_of(url)}meta text")
    with pytest.raises(NotAStore, match="something else"):
        async with RedisTaskStore(url):
            pass
    server.admin(f"DEL {prefix_of(url)}meta")


# --- data that vanishes -------------------------------------------------------------------------------------------


async def test_a_flushed_store_refuses_instead_of_running_empty(private_server: PrivateServer) -> None:
    server = private_server("redis")
    async with RedisTaskStore(server.url()) as store:
        await store.apply(Enqueue((job(),)))
        server.admin("FLUSHALL")
        for op in (Enqueue((job(),)), claim(), Count(), Maintain(LEASE_US)):
            with pytest.raises(StoreMissing, match="its data is gone") as error:
                await store.apply(op)  # type: ignore[arg-type]
            assert error.value.applied == "no"
        with pytest.raises(StoreMissing):
            async with store.another():
                pass
        assert server.admin("DBSIZE") == [0]
        async with RedisTaskStore(server.url()) as fresh:  # somebody else begins anew
            await fresh.apply(Enqueue((job(),)))
            with pytest.raises(StoreMissing, match="replaced by another dataset"):
                await store.apply(claim())
            assert (await fresh.apply(Count())).queues[0].count(State.READY) == 1


async def test_a_server_that_forgets_at_a_restart_is_noticed(private_server: PrivateServer) -> None:
    server = private_server("redis")
    async with RedisTaskStore(server.url()) as store:
        await store.apply(Enqueue((job(),)))
        server.kill()
        server.restart()
        with anyio.fail_after(10):
            await gone(store)


async def gone(store: RedisTaskStore) -> None:
    """The first call may find the old connection dead; the next one meets the empty server."""
    while True:
        try:
            await store.apply(Enqueue((job(),)))
        except StoreUnavailable:
            continue
        except StoreMissing:
            return
        raise AssertionError("an empty server was taken for the store")


async def test_an_open_store_survives_a_restart(private_server: PrivateServer) -> None:
    server = private_server("redis", durable=True)
    async with RedisTaskStore(server.url()) as store:
        await store.apply(Enqueue((job(id="before"),)))
        server.kill()
        with pytest.raises(StoreUnavailable):
            await store.apply(Count())
        with pytest.raises(StoreUnavailable) as error:
            await store.apply(Enqueue((job(id="meanwhile"),)))
        assert error.value.applied == "no"  # nobody listened: nothing was sent
        server.restart()
        assert [each is not None for each in await store.apply(Load(("before", "meanwhile")))] == [True, False]
        assert [taken.id for taken in (await store.apply(claim())).claimed] == ["before"]
        assert (await store.facts())["survives"] == "power loss"


# --- memory -------------------------------------------------------------------------------------------------------


async def test_a_full_server_stores_nothing_and_can_be_drained(private_server: PrivateServer) -> None:
    server = private_server("redis", maxmemory="6mb", maxmemory_policy="noeviction")
    async with RedisTaskStore(server.url()) as store:
        stored, refused = 0, None
        while refused is None:
            try:
                await store.apply(Enqueue(tuple([job(payload=b"x" * 1_000) for _ in range(100)])))
                stored += 100
            except StoreFull as error:
                refused = error
        assert "maxmemory" in str(refused)
        assert refused.applied == "no"
        stats = await store.apply(Count())
        assert stats.queues[0].count(State.READY) == stored, "a part of the batch was stored"
        assert await store.check() == []
        taken = (await store.apply(claim(stored))).claimed
        for start in range(0, stored, 500):
            await store.apply(claim(0, settle=tuple(map(success, taken[start : start + 500]))))
        await store.apply(DeleteJobs(tuple([each.id for each in taken])))
        await store.apply(Enqueue(tuple([job() for _ in range(100)])))
        assert await store.check() == []


async def test_what_a_full_server_refuses_to_spawn_ends_nothing(private_server: PrivateServer) -> None:
    server = private_server("redis", maxmemory_policy="noeviction")
    async with RedisTaskStore(server.url()) as store:
        await store.apply(Enqueue((job(),)))
        (taken,) = (await store.apply(claim())).claimed
        server.admin("CONFIG SET maxmemory 100kb")
        with pytest.raises(StoreFull) as error:
            await store.apply(claim(0, settle=(evolve(success(taken), spawn=(job(),)),)))
        assert error.value.applied == "no"
        assert (await store.apply(Count())).queues[0].counts == ((State.RUNNING, 1),)
        assert (await store.apply(claim(0, settle=(success(taken),)))).refused == ()


# --- scripts ------------------------------------------------------------------------------------------------------


async def test_forgotten_scripts_are_loaded_again(url: str, server: Server) -> None:
    async with RedisTaskStore(url) as store:
        for number in range(20):
            if number % 3 == 0:
                server.admin("SCRIPT FLUSH")
            await store.apply(Enqueue((job(),)))
            assert len((await store.apply(claim(1))).claimed) == 1
        assert (await store.apply(Count())).queues[0].counts == ((State.RUNNING, 20),)
        await store.drop()


@pytest.mark.proves(10)
async def test_every_step_is_one_script(private_server: PrivateServer) -> None:
    """What the server sees from clients while jobs are enqueued, run and kept: scripts, and nothing else."""
    server = private_server("redis")
    async with RedisTaskStore(server.url()) as store:
        opened = store._opened
        assert opened is not None
        link = opened.dataset.link
        monitor: Any = link.new_connection()
        await opened.bridge.run(_begin_monitor, monitor)
        for op in (Enqueue((job(), job())), claim(1), Maintain(LEASE_US), PauseQueue("q"), Count(), TakeDump()):
            await store.apply(op)  # type: ignore[arg-type]
        await opened.read(link.call, "ECHO", END_OF_TEST)
        seen = await opened.bridge.run(_read_monitor, monitor)
        inside = [line for line in seen if " lua] " in line]
        assert len(inside) > 20, seen
        outside = {line.split('"')[1].upper() for line in seen if " lua] " not in line}
        assert outside <= {"AUTH", "EVAL", "EVALSHA"}


async def _begin_monitor(connection: Any) -> None:
    await connection.connect()
    await connection.send_command("MONITOR")
    await connection.read_response()


async def _read_monitor(connection: Any) -> list[str]:
    lines: list[str] = []
    while not lines or END_OF_TEST not in lines[-1]:
        lines.append((await connection.read_response()).decode())
    await connection.disconnect()
    return lines[:-1]


def test_the_rights_that_are_shipped_cover_what_the_scripts_call() -> None:
    called = re.compile(r"(?:call|chunked|send)\(\s*'([A-Z]+)'|'([SZ]SCAN)'")
    needed = {name for script in SCRIPTS.values() for found in called.findall(script.text) for name in found if name}
    worker = (FOLDER / "acl.txt").read_text("utf-8").splitlines()[0]
    granted = {word[1:].upper() for word in worker.split() if word.startswith("+")}
    assert {"HSET", "ZADD", "SSCAN", "EXISTS"} <= needed
    assert needed - granted == set()


async def test_a_script_is_not_undone_by_time(url: str) -> None:
    """A claim costs what it takes, whatever waits behind it."""
    async with RedisTaskStore(url) as store:
        costs: list[int] = []
        for backlog in (200, 5_000):
            await store.apply(Enqueue(tuple([job() for _ in range(backlog)])))
            costs.append(await _calls(store, claim(20)))
        assert costs[0] == costs[1]
        await store.drop()


async def _calls(store: RedisTaskStore, op: Exchange) -> int:
    """How many commands the server ran for it, once the script is known there."""
    await store.apply(claim(1))
    before = await _processed(store)
    await store.apply(op)
    return await _processed(store) - before


async def _processed(store: RedisTaskStore) -> int:
    opened = store._opened
    assert opened is not None
    text: bytes = await opened.read(opened.dataset.link.call, "INFO", "commandstats")
    return sum(map(int, re.findall(rb"calls=(\d+)", text)))


# --- names --------------------------------------------------------------------------------------------------------

NAMES = [
    "*",
    "{}",
    "{other}:j:1",
    "a:b",
    "a",
    "b:a",
    "0:0:t",
    "\U0001f680" * 50,
    "ünï ∑",
    "%s %d",
    "'\"\\",
    "[a-z]",
    "\u200d"[:0] + "x y",
]


async def test_odd_names_stay_apart(url: str) -> None:
    pairs = [(queue, task) for queue in NAMES for task in ("a", "b:a", queue)]
    async with RedisTaskStore(url) as store:
        specs = [job(queue=queue, task=task, tags=(("t", task), ("{}", queue))) for queue, task in pairs]
        await store.apply(Enqueue(tuple(specs)))
        for spec in specs:
            exchange = claim(100, spec.queue, spec.task)
            taken = (await store.apply(exchange)).claimed
            alike = [each.id for each in specs if (each.queue, each.task) == (spec.queue, spec.task)]
            assert {each.id for each in taken} <= set(alike)
            assert all(each.spec == next(one for one in specs if one.id == each.id) for each in taken)
        assert all(stat.counts[0][0] is State.RUNNING for stat in (await store.apply(Count())).queues)
        assert await store.check() == []
        await store.drop()


async def test_names_that_end_a_line_are_refused(url: str) -> None:
    async with RedisTaskStore(url) as store:
        for given in ({"queue": "a\nb"}, {"task": "a\x1f"}, {"tags": (("a\x1e", "b"),)}, {"id": "a\x00"}):
            with pytest.raises(InvalidName):
                await store.apply(Enqueue((job(**given),)))
        await store.drop()


async def test_a_large_payload_and_result_come_back(url: str) -> None:
    payload, result = bytes(range(256)) * 4_096, b"\x00\r\n" * 300_000
    async with RedisTaskStore(url) as store:
        await store.apply(Enqueue((job(payload=payload),)))
        (taken,) = (await store.apply(claim())).claimed
        assert taken.spec.payload == payload
        await store.apply(claim(0, settle=(evolve(success(taken), result=result),)))
        (found,) = await store.apply(Load((taken.id,)))
        assert found is not None
        assert found.life.end is not None
        assert found.life.end.result == result
        await store.drop()


# --- namespaces ---------------------------------------------------------------------------------------------------


async def test_dropping_a_namespace_leaves_its_neighbours(server: Server) -> None:
    name = f"n_{uuid4().hex[:8]}"
    async with RedisTaskStore(server.url(name)) as one, RedisTaskStore(server.url(f"{name}x")) as other:
        for store in (one, other):
            await store.apply(Enqueue(tuple([job() for _ in range(3_000)])))
        assert len((await one.apply(claim(1))).claimed) == 1
        await one.drop()
        assert server.admin(f"EXISTS {{{name}}}:meta {{{name}}}:all {{{name}}}:leases") == [0]
        with pytest.raises(StoreMissing):
            await one.apply(Enqueue((job(),)))
        assert (await other.apply(Count())).queues[0].counts == ((State.READY, 3_000),)
        await other.drop()


# --- facts and check ----------------------------------------------------------------------------------------------


async def test_facts_say_what_the_server_keeps(private_server: PrivateServer) -> None:
    server = private_server("redis", appendonly="yes", appendfsync="everysec")
    async with RedisTaskStore(server.url(), aging="1m") as store:
        await store.apply(Enqueue((job(),)))
        facts = await store.facts()
        assert facts["server"] in ("redis", "valkey")
        assert (facts["appendonly"], facts["appendfsync"]) == ("yes", "everysec")
        assert (facts["survives"], facts["jobs"], facts["aging_us"]) == ("loses about the last second", 1, 60 * SECOND)
        server.admin("CONFIG SET maxmemory-policy allkeys-lru")
        assert (await store.facts())["survives"] == "nothing"


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        (("no", "everysec", "noeviction"), "process crash of the client only"),
        (("yes", "everysec", "noeviction"), "loses about the last second"),
        (("yes", "always", "noeviction"), "power loss"),
        (("yes", "no", "noeviction"), "process crash of the client only"),
        (("yes", "always", "volatile-lru"), "nothing"),
        (("yes", "unknown", "noeviction"), "unknown"),
    ],
)
def test_what_a_server_survives(setting: tuple[str, str, str], said: str) -> None:
    assert survives(*setting) == said


async def test_rows_that_are_gone_stop_nobody(url: str, server: Server) -> None:
    """As after an eviction: what is left of the indexes is met, and stepped over."""
    async with RedisTaskStore(url) as store:
        kinds: dict[str, dict[str, Any]] = {
            "ready": {},
            "later": {"delay_us": SECOND},
            "expiring": {"expires_in_us": SECOND},
            "running": {"priority": 9},
            "done": {"priority": 9, "result_ttl_us": 0, "retention_us": 0},
        }
        both = [job(id=f"{name}-{which}", **given) for name, given in kinds.items() for which in ("gone", "kept")]
        await store.apply(Enqueue(tuple(both)))
        taken = (await store.apply(claim(4))).claimed
        await store.apply(claim(0, settle=tuple([success(each) for each in taken if each.id.startswith("done")])))
        server.admin("DEL " + " ".join(f"{prefix_of(url)}j:{name}-gone" for name in kinds))
        assert {each.id for each in (await store.apply(Export())).jobs} == {f"{name}-kept" for name in kinds}
        assert len((await store.apply(Find())).jobs) == 5
        assert await store.check() != []
        now = (await store.apply(Count())).now
        await store.apply(Maintain(LEASE_US), at=now + 1)
        await store.apply(Maintain(LEASE_US), at=now + 2 * SECOND)
        claimed = (await store.apply(claim(10), at=now + 2 * SECOND)).claimed
        assert {each.id for each in claimed} == {"ready-kept", "later-kept"}
        await store.apply(Maintain(SECOND), at=now + 300 * SECOND)
        await store.apply(Maintain(SECOND), at=now + 302 * SECOND)
        assert {each.id for each in (await store.apply(Find(states=(State.READY,)))).jobs} == {
            "running-kept",
            "ready-kept",
            "later-kept",
        }
        await store.apply(PurgeQueue("q"))
        await store.apply(Prune(0, tuple(State)))
        assert (await store.apply(Find())).jobs == ()
        await store.drop()


DAMAGES = {
    "a row is deleted": "DEL {p}j:ready",
    "a ready job is in no lane": "DEL {p}q:1:q:0:0:t",
    "its queue does not list the lane": "DEL {p}r:q",
    "a lease is missing": "ZREM {p}leases 00000000000001running",
    "a lease belongs to nobody": "ZADD {p}leases 5 00000000000009nobody",
    "an end has no index": "ZREM {p}f:3:604800000000:3600000000 00000000000002done",
    "a count is wrong": "HINCRBY {p}n:1 q 1",
    "a job is not listed": "ZREM {p}all 00000000000003ready",
    "a claim is forgotten": "DEL {p}c:first",
    "a due time is another": "ZADD {p}s:q 7 00000000000004later",
    "a key is free that is held": "HDEL {p}u key",
    "somebody wrote over an index": "SET {p}s:other text",
    "a life is unreadable": "HSET {p}j:later l nonsense",
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_check_finds_damage(url: str, server: Server, damage: str) -> None:
    async with RedisTaskStore(url) as store:
        await store.apply(Enqueue((job(id="running", unique=UniqueKey("key")), job(id="done"))))
        taken = (await store.apply(Exchange("m", "first", 2, ("q",), ("t",), LEASE_US))).claimed
        await store.apply(claim(0, settle=(success(taken[1]),)))
        await store.apply(Enqueue((job(id="ready"), job(id="later", delay_us=LEASE_US))))
        assert await store.check() == []
        server.admin(DAMAGES[damage].format(p=prefix_of(url)))
        assert await store.check() != []
        await store.drop()
