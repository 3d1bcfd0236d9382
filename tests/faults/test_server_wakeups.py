"""A worker at rest hears of a job from another process at once, where its server can notify: no poll is waited for."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from uuid import uuid4

import anyio
import pytest
from servers import Server

from taskweave import App
from taskweave.connect import connect

pytestmark = pytest.mark.anyio

JOBS = 25
P50_MS_MAX = 100.0  # 20 ms where the machine is not shared; a poll would take seconds


@pytest.mark.parametrize(
    "kind",
    [pytest.param("postgres", marks=pytest.mark.proves(11)), pytest.param("redis", marks=pytest.mark.proves(10))],
)
async def test_a_job_starts_long_before_the_next_poll(
    kind: str, shared_server: Callable[[str], Server], capsys: pytest.CaptureFixture[str]
) -> None:
    url = shared_server(kind).url(f"wake_{uuid4().hex[:12]}")
    started: dict[int, float] = {}
    news = [anyio.Event()]
    worker, producer = App(url), App(url)  # no memory in common: what one says the other hears from the server

    @worker.task(name="note")
    async def note(n: int) -> None:
        started[n] = time.monotonic()
        news[0].set()

    @producer.task(name="note")
    async def same(n: int) -> None: ...

    took: list[float] = []
    async with worker, producer, worker.worker(poll="30s"):
        await same.enqueue(-1)
        with anyio.fail_after(60):
            await news[0].wait()  # it runs, and listens
        for n in range(JOBS):
            news[0] = anyio.Event()
            sent = time.monotonic()
            await same.enqueue(n)
            with anyio.fail_after(10):
                await news[0].wait()
            took.append((started[n] - sent) * 1_000)
    with capsys.disabled():
        print(f"\n{kind}: enqueued to started, at rest: p50 {statistics.median(took):.1f} ms, worst {max(took):.1f}")
    assert statistics.median(took) < P50_MS_MAX
    async with connect(url) as store:
        await store.drop()  # type: ignore[attr-defined]  # an ability of stores on servers
