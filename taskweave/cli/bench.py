"""taskweave bench: how many no-op jobs this machine drains in a second, beside a bare loop on the same store.

The floor does what any worker must do and nothing else: claim 100, run each as a task of the event loop, settle 100,
through the same store verbs. What lies between the floor and the drain is what the engine costs. Each figure is the
median of its rounds, with the slowest and the fastest; the rounds of all figures take turns, so that a noisy machine
disturbs them alike.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

import anyio
import click
from attrs import frozen

from taskweave._runtime.env import SystemEnv
from taskweave._runtime.executor import TaskExecutor
from taskweave.abc import TaskStore
from taskweave.app import App
from taskweave.cli.loops import backend_option, run_on
from taskweave.cli.output import Document, emit_json, say, show_table
from taskweave.cli.reach import json_option
from taskweave.connect import connect
from taskweave.core.ids import MINUTE, SECOND, Micros
from taskweave.core.job import Spec, Verb
from taskweave.core.verbs import Claimed, Enqueue, Exchange, Settlement

BATCH: Final = 1_000
FLOOR_BATCH: Final = 100
TASK: Final = "bench.noop"
QUEUE: Final = "bench"

Round: TypeAlias = Callable[[TaskStore, int], Awaitable[Micros]]


async def noop() -> None:
    """The job that costs nothing."""


@frozen
class Figure:
    """Jobs per second of each round."""

    store: str
    what: str
    rates: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.rates)

    def document(self) -> Document:
        return {
            "store": self.store,
            "what": self.what,
            "jobs_per_second": round(self.median),
            "slowest": round(min(self.rates)),
            "fastest": round(max(self.rates)),
            "rounds": len(self.rates),
        }


@click.command()
@click.option("--jobs", default=5_000, show_default=True, type=click.IntRange(100, 1_000_000))
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1, 100))
@click.option("--only", type=click.Choice(["memory", "sqlite"]), help="Only this store.")
@json_option
@backend_option
def bench(jobs: int, rounds: int, only: str | None, as_json: bool, backend: str) -> None:
    """Measure enqueue, drain and floor with no-op jobs, on the memory store and on SQLite."""
    stores = [only] if only else ["memory", "sqlite"]
    rates: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        for store in stores:
            for what, rate in run_on(backend, partial(measured, store, jobs)).items():
                rates.setdefault((store, what), []).append(rate)
    figures = [Figure(store, what, tuple(each)) for (store, what), each in rates.items()]
    if as_json:
        emit_json({"backend": backend, "jobs": jobs, "figures": [figure.document() for figure in figures]})
        return
    say(f"{jobs} no-op jobs on {backend}, one process, medians of {rounds} rounds, jobs/s")
    floors = {figure.store: figure.median for figure in figures if figure.what == "floor"}
    show_table(
        ("store", "what", "#median", "#slowest", "#fastest", "#of the floor"),
        [_row(figure, floors[figure.store]) for figure in figures],
    )


def _row(figure: Figure, floor: float) -> tuple[str, ...]:
    share = "" if figure.what == "enqueue" else f"{100 * figure.median / floor:.0f} %"
    rates = (figure.median, min(figure.rates), max(figure.rates))
    return figure.store, figure.what, *(f"{rate:,.0f}" for rate in rates), share


async def measured(store: str, jobs: int) -> dict[str, float]:
    """One round on fresh stores: jobs per second of enqueueing, of the floor and of the drain."""
    took: dict[str, Micros] = {}
    with tempfile.TemporaryDirectory(prefix="taskweave-bench-") as folder:
        for what, drained in (("floor", floor), ("drain", drain)):
            url = "memory://" if store == "memory" else f"sqlite:///{Path(folder) / what}.db"
            async with connect(url) as opened:
                took["enqueue"] = await enqueue(opened, jobs)
                took[what] = await drained(opened, jobs)
    return {what: jobs * SECOND / max(1, micros) for what, micros in took.items()}


async def enqueue(store: TaskStore, jobs: int) -> Micros:
    """The store verb alone, 1,000 jobs a call."""
    env = SystemEnv()
    specs = [Spec(env.new_id(), TASK, QUEUE, b"[[],{}]") for _ in range(jobs)]
    began = env.now()
    for start in range(0, jobs, BATCH):
        await store.apply(Enqueue(tuple(specs[start : start + BATCH])))
    return env.now() - began


async def floor(store: TaskStore, jobs: int) -> Micros:
    """Claim 100, run each as a task, settle 100; until all are done."""
    env = SystemEnv()
    began = env.now()
    settle: tuple[Settlement, ...] = ()
    done = 0
    while done < jobs or settle:
        request = Exchange("floor", env.new_id(), FLOOR_BATCH, (QUEUE,), (TASK,), MINUTE, settle)
        claimed = (await store.apply(request)).claimed
        async with anyio.create_task_group() as group:
            for _ in claimed:
                group.start_soon(noop)
        settle = tuple(_succeeded(job) for job in claimed)
        done += len(claimed)
    return env.now() - began


def _succeeded(job: Claimed) -> Settlement:
    return Settlement(job.id, job.fence, Verb.SUCCEED, b"null")


async def drain(store: TaskStore, jobs: int) -> Micros:
    """A TaskExecutor with its defaults, until nothing is left."""
    env = SystemEnv()
    app: Any = App("memory://")
    work = app.task(noop, name=TASK).work
    executor = TaskExecutor(store, [work], queues=(QUEUE,))
    began = env.now()
    await executor.run_until_idle()
    return env.now() - began
