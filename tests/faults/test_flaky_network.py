"""A whole program behind a network that breaks again and again: nothing is lost, and nothing succeeds twice.

Client, worker, keeper and maintenance all go through the proxy, which cuts every n-th request: before the server has
it, after it has answered, in the middle of the answer. What the jobs do is written down outside the store.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import anyio
import pytest
from proxy import Proxy, every
from servers import Server

from taskweave import App
from taskweave.connect import connect
from taskweave.core.job import State
from taskweave.core.verbs import Load, TakeDump
from taskweave.exceptions import StoreUnavailable

pytestmark = pytest.mark.anyio

JOBS = 500
EVERY = {"postgres": 41, "mysql": 41, "redis": 13}  # requests; an op on Redis is one, on the others it is several
LOGIN = {"redis": b"EVALSHA"}  # logging in is made of commands there, and is not what is cut


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("redis", marks=pytest.mark.proves(10)),
        pytest.param("postgres", marks=pytest.mark.proves(11)),
        pytest.param("mysql", marks=pytest.mark.proves(12)),
    ],
)
async def test_a_program_behind_a_flaky_network_does_everything_once(
    kind: str, shared_server: Callable[[str], Server]
) -> None:
    server = shared_server(kind)
    direct = server.url(f"flaky_{uuid4().hex[:12]}")
    ledger: Counter[int] = Counter()
    with Proxy(server) as proxy:
        app = App(proxy.url(direct))

        @app.task(name="step", max_lost=100)
        async def step(n: int) -> int:
            ledger[n] += 1
            await anyio.sleep(0.001)
            return n * n

        async with connect(direct) as store, app:
            try:
                proxy.plan = every(EVERY[kind], "before", "after", "mid", saying=LOGIN.get(kind, b""))
                async with app.worker(concurrency=16, lease="2s", maintain="100ms", poll="50ms"):
                    sent = await _send(step, proxy)
                    await _finished(store, sent)
                proxy.plan = None
                assert proxy.injected["before"] > 3, proxy.injected
                assert proxy.injected["after"] > 3, proxy.injected
                jobs = [job for job in await store.apply(Load(tuple(sent))) if job is not None]
                assert len(jobs) == JOBS, "an acknowledged job is gone"
                assert {job.state for job in jobs} == {State.SUCCEEDED}
                assert len((await store.apply(TakeDump())).jobs) == JOBS, "one job for each call"
                results = [job.life.end.result for job in jobs if job.life.end is not None]
                assert results == [str(n * n).encode() for n in range(JOBS)], "settled once, with its own result"
                assert set(ledger) == set(range(JOBS))
                again = {n: runs for n, runs in ledger.items() if runs > 1}
                lost = {UUID(job.id).int - 1: job.life.lost_count for job in jobs if job.life.lost_count}
                assert {n: runs - 1 for n, runs in again.items()} == lost, "a second run is a lease that was lost"
            finally:
                proxy.plan = None
                await store.drop()  # type: ignore[attr-defined]  # an ability of stores on servers


async def _send(step: Any, proxy: Proxy) -> list[str]:
    """Enqueue one after another; when nobody knows, again under the same id."""
    ids = [str(UUID(int=n + 1)) for n in range(JOBS)]
    for n, id in enumerate(ids):
        with anyio.fail_after(60):
            while True:
                try:
                    await step.options(id=id).enqueue(n)
                    break
                except StoreUnavailable:
                    assert proxy.injected.total(), "unavailable, without a fault"
    return ids


async def _finished(store: Any, ids: list[str]) -> None:
    with anyio.fail_after(90):
        while True:
            jobs = [job for job in await store.apply(Load(tuple(ids))) if job is not None]
            if len(jobs) == JOBS and all(job.finished for job in jobs):
                return
            await anyio.sleep(0.05)
