"""The endpoint on a real socket: what it serves, whom it refuses, and what it survives."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import pytest
from prometheus_client.parser import text_string_to_metric_families

from taskweave._runtime.env import SystemEnv
from taskweave.core.job import State
from taskweave.core.verbs import QueueStat, Stats
from taskweave.exceptions import InvalidValue, StoreUnavailable
from taskweave.observe.exposition import CONNECTIONS_MAX, Address, Exposition, parse_address
from taskweave.observe.metrics import PrometheusObserver

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def serving(exposition: Exposition) -> AsyncIterator[Address]:
    async with anyio.create_task_group() as group:
        address = await group.start(exposition.serve, Address("127.0.0.1", 0))
        yield address
        group.cancel_scope.cancel()


async def ask(address: Address, raw: bytes) -> tuple[int, bytes, bytes]:
    """The status, the head and the body of the answer to these bytes."""
    with anyio.fail_after(10):
        async with await anyio.connect_tcp(address.host, address.port) as stream:
            await stream.send(raw)
            answer = b"".join([part async for part in stream])
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), head, body


@pytest.mark.proves(14)
async def test_a_scrape_parses_and_shows_the_store() -> None:
    observer = PrometheusObserver()

    async def look() -> Stats:
        return Stats(0, (QueueStat("mail", False, ((State.READY, 4),), 0),))

    async with serving(Exposition(observer, SystemEnv(), look)) as address:
        status, head, body = await ask(address, b"GET /metrics?x=1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert status == 200
        assert b"text/plain; version=0.0.4" in head
        families = {family.name: family for family in text_string_to_metric_families(body.decode())}
        assert [sample.value for sample in families["taskweave_queue_jobs"].samples] == [4]
        status, head, body = await ask(address, b"HEAD /metrics HTTP/1.1\r\n\r\n")
        assert (status, body) == (200, b"")


async def test_a_store_that_does_not_answer_leaves_the_last_numbers() -> None:
    observer = PrometheusObserver()
    observer.counted(Stats(0, (QueueStat("mail", False, ((State.READY, 9),), 0),)))

    async def look() -> Stats:
        raise StoreUnavailable("postgres://db", "connection refused")

    async with serving(Exposition(observer, SystemEnv(), look)) as address:
        status, _, body = await ask(address, b"GET /metrics HTTP/1.1\r\n\r\n")
    assert status == 200
    assert b'taskweave_queue_jobs{queue="mail",state="ready"} 9.0' in body


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET /healthz HTTP/1.1\r\n\r\n", 200),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 405),
        (b"DELETE /healthz HTTP/1.1\r\n\r\n", 405),
        (b"GET /../etc/passwd HTTP/1.1\r\n\r\n", 404),
        (b"nonsense\r\n\r\n", 400),
        (b"GET /metrics SPDY/3\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"\xff\x00 \x00 HTTP/1.1\r\n\r\n", 405),
        (b"GET /metrics HTTP/1.1\r\nX: " + b"a" * (17 << 10), 431),
    ],
)
async def test_it_answers_what_it_knows_and_refuses_the_rest(raw: bytes, status: int) -> None:
    async with serving(Exposition(PrometheusObserver(), SystemEnv())) as address:
        assert (await ask(address, raw))[0] == status


async def test_a_stopping_worker_is_not_healthy() -> None:
    async with serving(Exposition(PrometheusObserver(), SystemEnv(), healthy=lambda: False)) as address:
        assert (await ask(address, b"GET /healthz HTTP/1.1\r\n\r\n"))[0] == 503


async def test_a_client_that_leaves_early_and_one_that_says_nothing_disturb_nobody() -> None:
    async with serving(Exposition(PrometheusObserver(), SystemEnv())) as address:
        gone = await anyio.connect_tcp(address.host, address.port)
        await gone.send(b"GET /met")
        await gone.aclose()
        async with await anyio.connect_tcp(address.host, address.port):
            assert (await ask(address, b"GET /healthz HTTP/1.1\r\n\r\n"))[0] == 200


async def test_silent_clients_cannot_take_more_than_their_connections() -> None:
    exposition = Exposition(PrometheusObserver(), SystemEnv())
    async with serving(exposition) as address, anyio.create_task_group() as group:
        silent = [await anyio.connect_tcp(address.host, address.port) for _ in range(CONNECTIONS_MAX)]
        with anyio.fail_after(5):
            while exposition._connections < CONNECTIONS_MAX:
                await anyio.lowlevel.checkpoint()
        async with await anyio.connect_tcp(address.host, address.port) as late:
            assert (await late.receive()).startswith(b"HTTP/1.1 503 ")
        for stream in silent:
            group.start_soon(stream.aclose)


async def test_a_head_that_does_not_come_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskweave.observe.exposition.HEAD_SECONDS_MAX", 0.05)
    async with serving(Exposition(PrometheusObserver(), SystemEnv())) as address:
        assert (await ask(address, b"GET /metrics HTTP/1.1\r\n"))[0] == 408


async def test_a_port_that_is_taken_is_said_so() -> None:
    async with serving(Exposition(PrometheusObserver(), SystemEnv())) as address:
        with pytest.raises(InvalidValue, match="in use"):
            await Exposition(PrometheusObserver(), SystemEnv()).serve(address)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        (":9090", "127.0.0.1", 9090),
        ("9090", "127.0.0.1", 9090),
        ("0.0.0.0:80", "0.0.0.0", 80),
        ("[::]:9090", "::", 9090),
        ("localhost:0", "localhost", 0),
    ],
)
def test_only_a_host_that_is_given_leaves_the_loopback(text: str, host: str, port: int) -> None:
    assert parse_address(text) == Address(host, port)


@pytest.mark.parametrize("text", ["", ":", "x", ":70000", "a b:1", ":-1", ":9 0", "host:٣", "::1:999999"])
def test_an_address_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue, match="metrics address"):
        parse_address(text)
