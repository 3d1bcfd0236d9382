"""Servers that are not there yet, killed, cut off, frozen and crowded: workers wait, come back, and lose nothing.

Promises under test: what was acknowledged is run (I1, I3) by one owner at a time (I4), and a worker recovers by itself
(I30). Each test has a server of its own and harms it for real; each asserts that its fault really happened.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import pytest
from proxy import Proxy
from server_fixtures import CROWD_MAX, required
from servers import Server
from site_of_workers import Site, loop_of, until

from taskweave import App
from taskweave.connect import connect
from taskweave.core.job import State
from taskweave.core.verbs import Count
from taskweave.exceptions import StoreError, StoreUnavailable

pytestmark = pytest.mark.anyio

KINDS = [
    pytest.param("redis", marks=pytest.mark.proves(10)),
    pytest.param("postgres", marks=pytest.mark.proves(11)),
    pytest.param("mysql", marks=pytest.mark.proves(12)),
]
KILLS = 5
RECOVERY_S = 20.0  # a few failed attempts of back-off, the restart of the server itself, and a busy machine


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    required(request.param, private=True)
    return str(request.param)


@pytest.fixture
def server(kind: str, harmed_server: Callable[[str], Server]) -> Server:
    """As a careful user runs it: what is answered is on the disk."""
    return harmed_server(kind)


@pytest.fixture
def url(server: Server) -> str:
    """A namespace of the test's own."""
    return server.url(f"down_{uuid4().hex[:12]}")


@pytest.fixture
def site(url: str, tmp_path: Path, anyio_backend: tuple[str, dict[str, Any]]) -> Iterator[Site]:
    site = Site(tmp_path, loop_of(anyio_backend), url)
    yield site
    site.end()


async def stopped(worker: subprocess.Popen[str]) -> int:
    worker.send_signal(signal.SIGTERM)
    return await anyio.to_thread.run_sync(worker.wait, 30)


async def test_workers_recover_each_time_their_server_is_killed(server: Server, site: Site) -> None:
    """SIGKILL to the whole server while jobs are enqueued, claimed and settled, five times in a row."""
    workers = [site.worker(), site.worker()]
    acknowledged: list[str] = []
    for kill in range(1, KILLS + 1):
        acknowledged += await site.strike(workers, server.kill)
        server.restart()
        acknowledged += await site.enqueue("step", range(-kill, 1 - kill))
        await until(lambda kill=kill: site.count("end")[-kill] == 1, RECOVERY_S)  # type: ignore[misc]  # a bound argument
    found = await site.settled(acknowledged, 60)
    assert [job.id for job in found] == acknowledged, "an acknowledged job is gone"
    assert {job.state for job in found} == {State.SUCCEEDED}
    assert set(site.count("end")) == {*range(site.sent), *range(-KILLS, 0)}
    assert [worker.poll() for worker in workers] == [None, None], "a worker gave up"
    assert [await stopped(worker) for worker in workers] == [0, 0]
    await site.check()


async def test_a_thousand_jobs_survive_kills_of_workers_and_of_their_server(server: Server, site: Site) -> None:
    ids = await site.enqueue("step", range(1_000), max_lost=10)
    lost = 0
    for kill in range(1, 4):
        worker = site.worker()
        await until(lambda kill=kill: sum(site.count("end").values()) >= 200 * kill)  # type: ignore[misc]
        lost += await site.kill_amid(worker, server.kill if kill == 2 else None)
        if kill == 2:
            server.restart()
    assert lost >= 3, "each kill hit running jobs"
    last = site.worker("until-idle")
    found = await site.settled(ids, 60)
    assert [job.state for job in found] == [State.SUCCEEDED] * 1_000
    assert len(site.count("end")) == 1_000
    assert await anyio.to_thread.run_sync(last.wait, 30) == 0
    await site.check()


async def test_connections_cut_by_an_operator_are_made_again(kind: str, server: Server, site: Site) -> None:
    """pg_terminate_backend and its likes, again and again, while two workers run."""
    kill_all = {
        "postgres": ["SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"],
        "mysql": ["KILL CONNECTION USER taskweave"],
        "redis": ["CLIENT KILL TYPE normal SKIPME yes", "CLIENT KILL TYPE pubsub SKIPME yes"],
    }[kind]
    workers = [site.worker(), site.worker()]
    ids: list[str] = []

    def cut() -> None:
        try:
            server.admin(*kill_all)
        except Exception:
            if kind != "mysql":  # there the one who says it is cut as well
                raise

    for _ in range(5):
        ids += await site.strike(workers, cut)
    found = await site.settled(ids, 60)
    assert {job.state for job in found} == {State.SUCCEEDED}
    assert set(site.count("end")) == set(range(site.sent))
    assert [await stopped(worker) for worker in workers] == [0, 0]


async def test_a_frozen_server_is_waited_for(server: Server, site: Site) -> None:
    """SIGSTOP: connections stay open and say nothing, for longer than a lease; then everything goes on."""
    worker = site.worker()
    ids = await site.strike([worker], server.pause)
    try:
        with anyio.move_on_after(2.0):  # the fault itself is this silence
            while True:
                await anyio.sleep(0.05)
                assert worker.poll() is None
    finally:
        server.resume()
    found = await site.settled(ids, 60)
    assert {job.state for job in found} == {State.SUCCEEDED}
    assert await stopped(worker) == 0


async def test_a_run_is_cancelled_before_its_lease_ends_when_its_server_falls_silent(
    server: Server, url: str, tmp_path: Path, anyio_backend: tuple[str, dict[str, Any]]
) -> None:
    """I4: cut off, the worker cannot know whether its job was given to another one, so it has to stop in time."""
    with Proxy(server) as proxy:
        site = Site(tmp_path, loop_of(anyio_backend), proxy.url(url))
        around = Site(tmp_path, loop_of(anyio_backend), url)
        try:
            await around.enqueue("hold", range(1))
            worker = site.worker()
            await until(lambda: site.count("start")[0] == 1)
            silent = proxy.silence()
            assert silent, "there was a connection to silence"
            other = around.worker()
            await until(lambda: site.count("start")[0] == 2)
            order = [line[0] for line in site.lines()]
            assert order == ["start", "cleaned", "start"], "both ran at once"
            (tmp_path / "go").touch()
            await until(lambda: site.count("end")[0] == 1)
            proxy.heal()
            assert [await stopped(each) for each in (worker, other)] == [0, 0]
        finally:
            site.end()
            around.end()


# --- not there yet, and full ----------------------------------------------------------------------------------------


async def test_a_worker_that_is_started_before_its_server_waits_for_it(server: Server, site: Site) -> None:
    """The command `taskweave worker`: it says that it waits, and runs the jobs once the server is there."""
    (id,) = await site.enqueue("step", range(1))
    server.halt()
    worker = site.command("worker", "ledger_app:app", "--backend", site.backend, "--until-idle")
    await until(lambda: site.said().count("waits for its store") >= 2)
    assert worker.poll() is None
    server.restart()
    assert await anyio.to_thread.run_sync(worker.wait, 40) == 0
    (job,) = await site.jobs([id])
    assert job.state is State.SUCCEEDED
    assert server.password not in site.said()


async def test_a_worker_that_waits_for_its_server_ends_at_a_signal(server: Server, site: Site) -> None:
    server.halt()
    worker = site.command("worker", "ledger_app:app", "--backend", site.backend)
    await until(lambda: "waits for its store" in site.said())
    assert await stopped(worker) == 0


async def test_a_server_without_a_free_connection_is_unavailable_until_it_has_one(server: Server, url: str) -> None:
    async with connect(url) as before:
        await before.apply(Count())
    with server.crowd(2 * CROWD_MAX) as held:
        assert 0 < held < 2 * CROWD_MAX, "the server is not full"
        with pytest.raises(StoreUnavailable) as caught:
            async with connect(url) as store:
                await store.apply(Count())
        assert (caught.value.transient, caught.value.applied) == (True, "no")
    with anyio.fail_after(30):
        while True:
            try:
                async with connect(url) as store:
                    await store.apply(Count())
                    break
            except StoreUnavailable:
                await anyio.sleep(0.05)


async def test_an_app_that_enqueues_into_an_outage_is_told_and_goes_on_after_it(server: Server, url: str) -> None:
    app = App(url)

    @app.task(name="note")
    async def note(n: int) -> None: ...

    async with app:
        first = await note.enqueue(1)
        server.kill()
        with pytest.raises(StoreUnavailable) as caught:
            await note.enqueue(2)
        assert server.password not in repr(caught.value)
        server.restart()
        with anyio.fail_after(RECOVERY_S):
            while True:
                try:
                    last = await note.enqueue(3)
                    break
                except StoreError:
                    await anyio.sleep(0.05)
        found = await app.check_status([first.id, last.id])
        assert None not in found.values(), "an acknowledged job is gone"
