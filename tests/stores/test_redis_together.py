"""Many clients, cut calls, lost subscriptions, few rights, and a cluster: Redis when more than one thing happens."""

from __future__ import annotations

import logging
import re
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from uuid import uuid4

import anyio
import pytest
import servers
from server_fixtures import required
from server_process import free_port
from servers import Server

from taskweave import App
from taskweave.abc import TaskStore
from taskweave.core.ids import SECOND
from taskweave.core.job import Spec, State, Verb
from taskweave.core.verbs import (
    CancelJobs,
    Claimed,
    Count,
    Enqueue,
    Exchange,
    Find,
    Maintain,
    ResumeQueue,
    Settlement,
    TakeDump,
)
from taskweave.exceptions import StoreRefused, StoreUnavailable
from taskweave.stores import redis as store_module
from taskweave.stores._redis.scripts import FOLDER
from taskweave.stores.redis import RedisTaskStore
from taskweave.testing import check_store
from taskweave.testing.places import MakeStore

pytestmark = pytest.mark.anyio

LEASE_US = 30 * SECOND
PrivateServer = Callable[..., Server]


def jobs(number: int) -> Enqueue:
    return Enqueue(tuple([Spec(str(uuid4()), "t", "q", b"[[],{}]") for _ in range(number)]))


def claim(want: int, settle: tuple[Settlement, ...] = ()) -> Exchange:
    return Exchange("m", str(uuid4()), want, ("q",), ("t",), LEASE_US, settle)


def success(taken: Claimed) -> Settlement:
    return Settlement(taken.id, taken.fence, Verb.SUCCEED, b"null")


@pytest.fixture
def url(shared_server: Callable[[str], Server]) -> str:
    """A namespace of the test's own."""
    return shared_server("redis").url(f"together_{uuid4().hex[:12]}")


# --- many clients -------------------------------------------------------------------------------------------------


async def test_many_workers_take_each_job_once(url: str) -> None:
    number, seen = 1_500, Counter[str]()

    async def work(most: int) -> None:
        async with RedisTaskStore(url, pool_max=2) as store:
            ends: tuple[Settlement, ...] = ()
            while True:
                answer = await store.apply(claim(most, ends))
                assert answer.refused == ()
                seen.update(taken.id for taken in answer.claimed)
                ends = tuple(map(success, answer.claimed))
                if not ends:
                    return

    async with RedisTaskStore(url) as store:
        await store.apply(jobs(number))
        async with anyio.create_task_group() as group:
            for most in (1, 7, 20, 50, 50):
                group.start_soon(work, most)
        assert len(seen) == number
        assert set(seen.values()) == {1}
        assert (await store.apply(Count())).queues[0].counts == ((State.SUCCEEDED, number),)
        assert await store.check() == []
        await store.drop()


async def test_a_small_pool_serves_many_callers(url: str) -> None:
    async with RedisTaskStore(url, pool_max=2) as store:
        async with anyio.create_task_group() as group:
            for _ in range(200):
                group.start_soon(store.apply, jobs(1))
        assert (await store.apply(Count())).queues[0].count(State.READY) == 200
        assert len(await connections(store)) <= 2
        await store.drop()


async def connections(store: RedisTaskStore) -> list[bytes]:
    """Those of this store: the others of the shared server have other addresses."""
    opened = store._opened
    assert opened is not None
    pool = opened.dataset.link._pool
    return [*pool._available_connections, *pool._in_use_connections]  # type: ignore[list-item]


# --- calls that are cut -------------------------------------------------------------------------------------------


async def test_a_write_that_was_begun_is_not_cancelled(url: str) -> None:
    """A storm of cancellations: what the caller could not see is there, whole, or nothing of it is."""
    chance, cut, answered = Random(7), 0, 0
    async with RedisTaskStore(url, pool_max=4) as store:

        async def call(op: Enqueue | Exchange, after_s: float) -> None:
            nonlocal cut, answered
            with anyio.move_on_after(after_s) as scope:
                await store.apply(op)
                answered += 1
            cut += scope.cancelled_caught

        sent: list[Enqueue] = []
        for _ in range(60):
            async with anyio.create_task_group() as group:
                for _ in range(8):
                    sent.append(jobs(3))
                    group.start_soon(call, sent[-1], chance.uniform(0, 0.004))
        assert answered > 0
        stored = {job.id for job in (await store.apply(TakeDump())).jobs}
        for op in sent:
            assert len({spec.id for spec in op.specs} & stored) in (0, 3), "half of a batch"
        await store.apply(sent[0])
        assert await store.check() == []
        assert len(await connections(store)) <= 4
        await store.drop()


async def test_a_read_can_be_cancelled_and_the_store_goes_on(private_server: PrivateServer) -> None:
    server = private_server("redis")
    async with RedisTaskStore(server.url(), pool_max=1) as store:
        await store.apply(jobs(1))
        server.pause()
        try:
            with anyio.move_on_after(0.2) as scope:
                await store.apply(Count())
            assert scope.cancelled_caught
        finally:
            server.resume()
        with anyio.fail_after(10):
            assert (await store.apply(Count())).queues[0].count(State.READY) == 1


async def test_a_server_that_hangs_leaves_it_unknown(
    private_server: PrivateServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "CALL_DEADLINE_S", 0.3)
    server = private_server("redis")
    op = jobs(2)
    async with RedisTaskStore(server.url()) as store:
        await store.apply(jobs(1))
        server.pause()
        try:
            with pytest.raises(StoreUnavailable, match=r"within 0\.3 s") as error:
                await store.apply(op)
            assert error.value.applied == "unknown"
        finally:
            server.resume()
        monkeypatch.setattr(store_module, "CALL_DEADLINE_S", 10.0)
        await store.apply(op)  # the same op again: its jobs are there once
        assert (await store.apply(Count())).queues[0].count(State.READY) == 3


# --- wake-ups -----------------------------------------------------------------------------------------------------


async def test_listeners_are_told_of_their_queue_and_of_ends(url: str) -> None:
    async with RedisTaskStore(url) as store, RedisTaskStore(url) as other:
        async with store.listen(("q", "another")) as queue, store.listen(()) as ends:
            for wakeups in (queue, ends):
                with anyio.fail_after(10):
                    await wakeups.wait()  # the subscription stands
            await other.apply(jobs(2))
            with anyio.fail_after(10):
                await queue.wait()
            await other.apply(Enqueue((Spec(str(uuid4()), "t", "elsewhere", b"[[],{}]"),)))
            taken = (await other.apply(claim(2))).claimed
            with anyio.move_on_after(0.3) as silence:
                await queue.wait()
            assert silence.cancelled_caught, "woken for another queue, or by a claim"
            await other.apply(claim(0, (success(taken[0]),)))
            with anyio.fail_after(10):
                await ends.wait()
            for op in (CancelJobs((taken[1].id,)), ResumeQueue("another")):
                await other.apply(op)
                with anyio.fail_after(10):
                    await queue.wait()
        await store.drop()


async def test_a_lost_subscription_is_said_once_and_comes_back(
    private_server: PrivateServer, caplog: pytest.LogCaptureFixture
) -> None:
    server = private_server("redis", durable=True)
    async with RedisTaskStore(server.url()) as store, store.listen(("q",)) as wakeups:
        with anyio.fail_after(10):
            await wakeups.wait()
        with caplog.at_level(logging.WARNING, "taskweave.store"):
            server.kill()
            with anyio.fail_after(10):
                while not caplog.records:
                    await anyio.sleep(0.01)
            with anyio.move_on_after(0.5):  # several attempts in vain
                await wakeups.wait()
            server.restart()
            with anyio.fail_after(20):
                await wakeups.wait()  # it says by itself that something may have been missed
        assert ["hints are lost" in record.getMessage() for record in caplog.records] == [True]
        await store.apply(jobs(1))
        with anyio.fail_after(10):
            await wakeups.wait()


async def test_an_error_of_the_listener_is_raised_as_it_is(url: str) -> None:
    async with RedisTaskStore(url) as store:
        with pytest.raises(ZeroDivisionError):
            async with store.listen(("q",)):
                raise ZeroDivisionError
        await store.drop()


# --- rights -------------------------------------------------------------------------------------------------------


async def test_the_rights_of_a_worker_suffice_for_everything(
    private_server: PrivateServer, caplog: pytest.LogCaptureFixture
) -> None:
    server = private_server("redis")
    worker, reader = (FOLDER / "acl.txt").read_text("utf-8").replace("CHANGE-THIS", "word").splitlines()
    server.admin(worker, reader)
    address = server.url("taskweave", user="taskweave_worker", password="word-1")
    async with RedisTaskStore(address) as store:
        async with store.listen(("q",)) as wakeups:
            with anyio.fail_after(10):
                await wakeups.wait()
            await store.apply(jobs(3))
            taken = (await store.apply(claim(3))).claimed
            await store.apply(claim(0, tuple(map(success, taken))))
            for op in (Maintain(LEASE_US), Count(), Find(), TakeDump()):
                await store.apply(op)  # type: ignore[arg-type]
        assert (await store.facts())["appendfsync"] == "unknown"  # CONFIG shows passwords: no worker needs it
        assert await store.check() == []
        await store.drop()
    certificate = await check_store(dropped_after(address), level="basic", only=walking)
    assert certificate.passed, [outcome for outcome in certificate.outcomes if outcome.problem]
    assert not caplog.records
    denied = re.findall(r"'object'[:,] '([a-z]+)", str(server.admin("ACL LOG")))
    assert set(denied) == {"config"}
    with pytest.raises(StoreRefused):
        async with RedisTaskStore(server.url("other", user="taskweave_worker", password="word-1")):
            pass


def dropped_after(address: str) -> MakeStore:
    """For the conformance suite: one namespace at a time, the address' own."""

    @asynccontextmanager
    async def make(namespace: str) -> AsyncIterator[TaskStore]:
        async with RedisTaskStore(address) as store:
            yield store
            await store.drop()

    return make


def walking(name: str) -> bool:
    return name.startswith("walk")


# --- TLS ----------------------------------------------------------------------------------------------------------


async def test_tls_is_checked(
    private_server: PrivateServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    anyio_backend_options: dict[str, object],
) -> None:
    if anyio_backend_options.get("use_uvloop"):
        pytest.skip("now and then uvloop fails to close the handle of a handshake that was refused (EBUSY)")
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make a certificate with")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    making = f"req -x509 -newkey rsa:2048 -nodes -keyout {key} -out {certificate} -days 2 -subj /CN=127.0.0.1"
    names = ["-addext", "subjectAltName=IP:127.0.0.1"]
    await anyio.run_process([openssl, *making.split(), *names])
    port = free_port()
    files = {"tls_cert_file": certificate, "tls_key_file": key, "tls_ca_cert_file": certificate}
    server = private_server("redis", tls_port=port, tls_auth_clients="no", **files)
    address = server.url().replace("redis://", "rediss://").replace(f":{server.port}/", f":{port}/")
    with pytest.raises(StoreRefused, match="CERTIFICATE_VERIFY_FAILED") as error:
        async with RedisTaskStore(address):
            pass
    assert error.value.applied == "no"
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with RedisTaskStore(address) as store, store.listen(("q",)) as wakeups:
        with anyio.fail_after(10):
            await wakeups.wait()
        await store.apply(jobs(1))
        assert len((await store.apply(claim(1))).claimed) == 1


# --- a cluster ----------------------------------------------------------------------------------------------------


@pytest.mark.proves(10)
async def test_a_cluster_keeps_all_promises() -> None:
    required("redis", private=True)
    with servers.cluster() as nodes:
        for entrance in nodes:  # one of them has the keys, the others send on
            address = f"{entrance.url('clustered')}&cluster=true"
            async with RedisTaskStore(address) as store:
                assert store.url.endswith("&cluster=true")
                await store.apply(jobs(5))
                async with store.listen(("q",)) as wakeups:
                    with anyio.fail_after(10):
                        await wakeups.wait()
                    async with RedisTaskStore(f"{nodes[0].url('clustered')}&cluster=true") as other:
                        await other.apply(jobs(1))
                    with anyio.fail_after(10):
                        await wakeups.wait()
                taken = (await store.apply(claim(6))).claimed
                assert len(taken) == 6
                await store.apply(claim(0, tuple(map(success, taken))))
                assert await store.check() == []
                assert (await store.facts())["cluster"] is True
        outsiders = [node for node in nodes if not _has_keys(node)]
        assert len(outsiders) == 2, "the keys of a namespace are in several slots"
        for node in outsiders:  # without cluster=true nobody is sent on
            with pytest.raises(StoreRefused, match="cluster=true"):
                async with RedisTaskStore(node.url("clustered")):
                    pass
        async with RedisTaskStore(address) as store:
            assert (await store.apply(Count())).queues[0].counts == ((State.SUCCEEDED, 18),)
            await store.drop()
        certificate = await check_store(dropped_after(address), level="basic", only=walking)
        assert certificate.passed, [outcome for outcome in certificate.outcomes if outcome.problem]


def _has_keys(node: Server) -> bool:
    (number,) = node.admin("DBSIZE")
    return bool(number)


async def test_a_slot_that_moves_is_followed() -> None:
    required("redis", private=True)
    with servers.cluster() as nodes:
        async with RedisTaskStore(f"{nodes[0].url('moving')}&cluster=true") as store:
            await store.apply(jobs(3))
            slot = nodes[0].admin("CLUSTER KEYSLOT {moving}:meta")[0]
            source = next(node for node in nodes if _has_keys(node))
            target = next(node for node in nodes if node is not source)
            _move(slot, source, target)
            with anyio.fail_after(20):
                taken = (await store.apply(claim(3))).claimed
            assert len(taken) == 3
            assert _has_keys(target)
            assert not _has_keys(source)
            assert await store.check() == []


def _move(slot: int, source: Server, target: Server) -> None:
    """As an administrator moves a slot by hand."""
    names = {node: node.admin("CLUSTER MYID")[0] for node in (source, target)}
    target.admin(f"CLUSTER SETSLOT {slot} IMPORTING {names[source]}")
    source.admin(f"CLUSTER SETSLOT {slot} MIGRATING {names[target]}")
    keys = source.admin(f"CLUSTER GETKEYSINSLOT {slot} 1000")
    for key in keys:
        (dumped,) = _raw(source, "DUMP", key)
        _raw(target, "ASKING-RESTORE", key, dumped)
        source.admin(f"DEL {key}")
    for node in (target, source):
        node.admin(f"CLUSTER SETSLOT {slot} NODE {names[target]}")


def _raw(node: Server, verb: str, *arguments: object) -> list[object]:
    """Bytes, which `admin` would decode."""
    from redis import Redis

    client = Redis(host=node.host, port=node.port, username=node.user, password=node.password)
    try:
        if verb == "DUMP":
            return [client.execute_command("DUMP", *arguments)]
        connection = client.connection_pool.get_connection()
        for command in (("ASKING",), ("RESTORE", arguments[0], 0, arguments[1])):
            connection.send_command(*command)
            connection.read_response()
        connection.disconnect()
        return []
    finally:
        client.close()


# --- an application -----------------------------------------------------------------------------------------------


async def test_an_app_runs_its_tasks_on_redis(url: str) -> None:
    app = App(url)

    @app.task
    async def double(number: int) -> int:
        return 2 * number

    async with app, app.worker():
        handles = [await double.enqueue(number) for number in range(20)]
        with anyio.fail_after(30):
            assert [await handle.result() for handle in handles] == [2 * number for number in range(20)]
    async with RedisTaskStore(url) as store:
        await store.drop()
