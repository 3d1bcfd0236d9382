"""What `taskweave bench` measures of throughput: drain, floor, enqueue, claim.

Each measure is a plain function of (store, jobs, folder) without any repetition. Stores are memory, sqlite
(synchronous=NORMAL), sqlite-full, and the address of a server, on which a namespace of its own is made and dropped.
"""

from __future__ import annotations

import os
import resource
import statistics
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import anyio

from taskweave._runtime.env import SystemEnv
from taskweave.abc import TaskStore
from taskweave.app import App
from taskweave.connect import connect
from taskweave.core.ids import MINUTE, SECOND
from taskweave.core.job import Spec, Verb
from taskweave.core.verbs import Enqueue, Exchange, Settlement
from taskweave.stores.sqlite import SQLiteTaskStore

TASK: Final = "bench.noop"
FLOOR_BATCH: Final = 100
WIRE_BATCH: Final = 1_000
ADDRESS: Final = "TASKWEAVE_BENCH_STORE"
Facts: TypeAlias = dict[str, float]


async def noop(n: int) -> None:
    """The job that costs nothing."""


def is_server(kind: str) -> bool:
    return "://" in kind


def store_of(kind: str, folder: str) -> TaskStore:
    """memory, sqlite (synchronous=NORMAL), sqlite-full, or the store at an address; not yet opened."""
    if is_server(kind):
        return connect(kind)
    if kind == "memory":
        return connect("memory://")
    return SQLiteTaskStore(Path(folder) / "bench.db", synchronous="FULL" if kind == "sqlite-full" else "NORMAL")


def given(store: str) -> tuple[str, dict[str, str]]:
    """A store as an argument and the environment of a process: an address, which may hold a password, goes unseen."""
    return ("server", {**os.environ, ADDRESS: store}) if is_server(store) else (store, dict(os.environ))


def taken(kind: str) -> str:
    """The store that another process was told of by `given`."""
    return os.environ[ADDRESS] if kind == "server" else kind


def beside(url: str) -> str:
    """The address of a new namespace on the same server."""
    parts, name = urlsplit(url), f"taskweave_bench_{SystemEnv().new_id()[-12:]}"
    query = [(key, value) for key, value in parse_qsl(parts.query) if key != "namespace"]
    return urlunsplit(parts._replace(query=urlencode([*query, ("namespace", name)])))


@asynccontextmanager
async def opened(kind: str, folder: str) -> AsyncGenerator[TaskStore]:
    """The store for as long as one measurement lasts; nothing of it is left behind."""
    async with store_of(kind, folder) as store:
        try:
            yield store
        finally:
            if is_server(kind):
                with anyio.CancelScope(shield=True):
                    await getattr(store, "drop")()  # noqa: B009 - an ability of stores on servers


def app_on(store: TaskStore) -> Any:
    app = App(store)
    return app, app.task(noop, name=TASK)


async def drain(kind: str, jobs: int, folder: str) -> Facts:
    """Jobs enqueued beforehand, drained by one worker with its defaults, results stored."""
    async with opened(kind, folder) as store:
        app, task = app_on(store)
        async with app:
            await task.enqueue_many([(n,) for n in range(jobs)])
            cpu, began = time.process_time(), time.perf_counter()
            await app.executor().run_until_idle()
            took, cpu = time.perf_counter() - began, time.process_time() - cpu
            (stat,) = await app.queues()
            assert dict(stat.counts) == {"succeeded": jobs}
    rss_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"jobs_per_second": jobs / took, "cpu_us_per_job": cpu / jobs * 1e6, "rss_mb": rss_mb}


async def floor(kind: str, jobs: int, folder: str) -> Facts:
    """A bare loop on the same store: claim 100, run each as a task of the loop, settle 100, until all are done."""
    async with opened(kind, folder) as store:
        _, task = app_on(store)
        await _fill(store, task, jobs)
        cpu, began, done = time.process_time(), time.perf_counter(), 0
        settle: tuple[Settlement, ...] = ()
        while done < jobs or settle:
            request = Exchange("floor", f"c{done}", FLOOR_BATCH, ("default",), (TASK,), MINUTE, settle)
            claimed = (await store.apply(request)).claimed
            async with anyio.create_task_group() as group:
                for _ in claimed:
                    group.start_soon(noop, 1)
            settle = tuple(Settlement(job.id, job.fence, Verb.SUCCEED, b"null") for job in claimed)
            done += len(claimed)
        took, cpu = time.perf_counter() - began, time.process_time() - cpu
    return {"jobs_per_second": jobs / took, "cpu_us_per_job": cpu / jobs * 1e6}


async def _fill(store: TaskStore, task: Any, jobs: int) -> float:
    """Enqueue by the store's verb alone; the seconds that this took."""
    specs = [task.call(n).spec() for n in range(jobs)]
    batches = [tuple(specs[at : at + WIRE_BATCH]) for at in range(0, jobs, WIRE_BATCH)]
    began = time.perf_counter()
    for batch in batches:
        await store.apply(Enqueue(batch))
    return time.perf_counter() - began


async def enqueue(kind: str, jobs: int, folder: str) -> Facts:
    """In bulk and one by one through the public API, and the store verb alone."""
    async with opened(kind, folder) as store:
        app, task = app_on(store)
        async with app:
            calls = [(n,) for n in range(jobs)]
            began = time.perf_counter()
            await task.enqueue_many(calls)
            bulk = jobs / (time.perf_counter() - began)
            few = max(1, jobs // 10)
            began = time.perf_counter()
            for n in range(few):
                await task.enqueue(n)
            single = few / (time.perf_counter() - began)
            verb = jobs / await _fill(store, task, jobs)
    return {"bulk_per_second": bulk, "single_per_second": single, "verb_per_second": verb}


async def claim(kind: str, jobs: int, folder: str) -> Facts:
    """One exchange that settles 50 and claims 50, with `jobs` queued, in microseconds for each job."""
    async with opened(kind, folder) as store:
        for start in range(0, jobs, 10_000):
            specs = tuple(Spec(f"j{n}", TASK, "default", b"[[1],{}]") for n in range(start, start + 10_000))
            await store.apply(Enqueue(specs[: jobs - start]))
        settle: tuple[Settlement, ...] = ()
        took: list[float] = []
        for round in range(100):
            request = Exchange("m", f"c{round}", 50, ("default",), (TASK,), MINUTE, settle)
            began = time.perf_counter()
            answer = await store.apply(request)
            took.append((time.perf_counter() - began) / 50 * SECOND)
            settle = tuple(Settlement(job.id, job.fence, Verb.SUCCEED, b"null") for job in answer.claimed)
    return {"us_per_job": statistics.median(took[1:])}
