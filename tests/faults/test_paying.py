"""Effects exactly once (I7): real workers that are killed in a transaction or after it, and one that is frozen.

Each job writes one row of the user's in its own transaction. Whatever happens: a job has its row if and only if it has
succeeded, and never two. Each test asserts that its fault really happened.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from proxy import Fault, Plan, Proxy, Request, Where
from servers import Server
from site_of_workers import loop_of, until
from transacting import Ledger, address, ledger_at

from taskweave import App, Ctx, inject
from taskweave.core.job import Job, State
from taskweave.core.verbs import Load

pytestmark = pytest.mark.anyio

KINDS = ["sqlite", "postgres", "mysql"]
HERE = Path(__file__).parent


class Payers:
    """A store, a ledger in it, and the workers that pay (children of this test alone)."""

    def __init__(self, folder: Path, loop: str, url: str, ledger: Ledger) -> None:
        self.folder, self.loop, self.url, self.ledger = folder, loop, url, ledger
        self.workers: list[subprocess.Popen[str]] = []

    def worker(self, **facts: str) -> subprocess.Popen[str]:
        env = {f"PAYING_{name.upper()}": value for name, value in facts.items()}
        env |= {"PAYING_STORE": self.url, "PAYING_KIND": self.ledger.kind, "PAYING_TABLE": self.ledger.table}
        worker = subprocess.Popen(
            [sys.executable, str(HERE / "paying_app.py"), str(self.folder), self.loop],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, **env},
        )
        self.workers.append(worker)
        assert worker.stdout is not None
        assert worker.stdout.readline() == "up\n"
        return worker

    async def enqueue(self, numbers: range) -> list[str]:
        app = App(self.url)

        async def pay(n: int) -> None: ...

        sent = app.task(pay, name="pay", max_lost=50)
        async with app:
            return [handle.id for handle in await sent.enqueue_many([(n,) for n in numbers])]

    async def jobs(self, ids: list[str]) -> list[Job]:
        found: list[Job] = []
        for start in range(0, len(ids), 500):
            found += [job for job in await self.ledger.store.apply(Load(tuple(ids[start : start + 500]))) if job]
        return found

    async def finished(self, ids: list[str], seconds: float = 60) -> None:
        with anyio.fail_after(seconds):
            while not all(job.finished for job in await self.jobs(ids)):
                await anyio.sleep(0.05)

    async def judge(self, ids: list[str]) -> Counter[State]:
        """Rows of a job = 1 if it succeeded, else 0: rows are read first, so that none can be younger than its job."""
        rows = Counter(await self.ledger.rows())
        jobs = await self.jobs(ids)
        assert set(rows.values()) <= {1}, "an effect happened twice"
        succeeded = {n for n, job in enumerate(jobs) if job.state is State.SUCCEEDED}
        assert rows.keys() <= succeeded, "an effect without its success"
        errors = {
            str(job.life.end.error) for job in jobs if job.life.end is not None and job.life.end.error is not None
        }
        assert not errors, "no job of these tests fails"
        return Counter(job.state for job in jobs)

    def count(self, word: str) -> Counter[int]:
        notes = self.folder / "notes"
        lines = [line.split() for line in notes.read_text().splitlines()] if notes.exists() else []
        return Counter(int(line[1]) for line in lines if line[0] == word)

    def end(self) -> None:
        for worker in self.workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGCONT)
                worker.kill()
            worker.wait(20)
            assert worker.stdout is not None
            worker.stdout.close()


@asynccontextmanager
async def paying(folder: Path, loop: str, kind: str, shared_server: Callable[[str], Any]) -> AsyncIterator[Payers]:
    url = address(kind, folder, shared_server)
    async with ledger_at(url, kind) as ledger:
        payers = Payers(folder, loop, url, ledger)
        try:
            yield payers
        finally:
            payers.end()


@pytest.fixture(params=KINDS)
async def payers(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    anyio_backend: tuple[str, dict[str, Any]],
    shared_server: Callable[[str], Any],
) -> AsyncIterator[Payers]:
    async with paying(tmp_path, loop_of(anyio_backend), request.param, shared_server) as payers:
        yield payers


async def test_a_thousand_jobs_have_one_effect_each_however_often_workers_are_killed(payers: Payers) -> None:
    ids = await payers.enqueue(range(1_000))
    inside = after = 0
    for kill in range(1, 5):
        worker = payers.worker()
        await until(lambda kill=kill: len(payers.count("after")) >= 150 * kill)  # type: ignore[misc]  # a bound argument
        worker.kill()
        worker.wait()
        await payers.judge(ids)
        inside += len(payers.count("start").keys() - payers.count("after").keys())
        after = len(payers.count("after"))
    assert inside, "no kill hit a job under way: the test would prove nothing"
    assert after < 1_000
    payers.worker()
    await payers.finished(ids)
    assert await payers.judge(ids) == {State.SUCCEEDED: 1_000}
    assert await payers.ledger.rows() == list(range(1_000))


@pytest.mark.parametrize("point", ["inside", "after"])
async def test_a_kill_in_the_block_undoes_it_and_one_after_the_commit_does_not(payers: Payers, point: str) -> None:
    ids = await payers.enqueue(range(40))
    worker = payers.worker(crash=f"{point}:17")
    assert await anyio.to_thread.run_sync(worker.wait, 30) == -signal.SIGKILL
    assert payers.count(point)[17] == 1
    states = await payers.judge(ids)
    assert states[State.SUCCEEDED] < 40
    (job,) = await payers.jobs([ids[17]])
    assert (job.state is State.SUCCEEDED) is (point == "after")
    assert (17 in await payers.ledger.rows()) is (point == "after")
    payers.worker()
    await payers.finished(ids)
    assert await payers.judge(ids) == {State.SUCCEEDED: 40}
    assert await payers.ledger.rows() == list(range(40))
    assert payers.count("start")[17] == (1 if point == "after" else 2)


@pytest.mark.proves(43)
async def test_a_frozen_worker_comes_back_too_late_and_nothing_of_it_is_kept(payers: Payers) -> None:
    hold = payers.folder / "hold"
    hold.touch()
    (id,) = await payers.enqueue(range(1))
    frozen = payers.worker(hold="before")
    await until(lambda: payers.count("start")[0] == 1)
    frozen.send_signal(signal.SIGSTOP)
    payers.worker()
    await payers.finished([id])
    assert await payers.ledger.rows() == [0]
    hold.unlink()
    frozen.send_signal(signal.SIGCONT)
    frozen.send_signal(signal.SIGTERM)
    await anyio.to_thread.run_sync(frozen.wait, 30)
    assert payers.count("start")[0] == 2, "the job was never taken over: the test would prove nothing"
    assert await payers.judge([id]) == {State.SUCCEEDED: 1}


@pytest.mark.proves(43)
@pytest.mark.parametrize("payers", [kind for kind in KINDS if kind != "sqlite"], indirect=True)
async def test_one_that_is_frozen_in_its_block_cannot_commit_it_later(payers: Payers) -> None:
    """On servers others go on meanwhile; on SQLite the file is locked until the process goes on or dies."""
    hold = payers.folder / "hold"
    hold.touch()
    (id,) = await payers.enqueue(range(1))
    frozen = payers.worker(hold="inside")
    await until(lambda: payers.count("inserted")[0] == 1)
    frozen.send_signal(signal.SIGSTOP)
    payers.worker()
    await payers.finished([id])
    hold.unlink()
    frozen.send_signal(signal.SIGCONT)
    frozen.send_signal(signal.SIGTERM)
    await anyio.to_thread.run_sync(frozen.wait, 30)
    assert payers.count("start")[0] == 2, "the job was never taken over: the test would prove nothing"
    assert await payers.judge([id]) == {State.SUCCEEDED: 1}
    assert await payers.ledger.rows() == [0]


async def test_settled_outside_of_the_transaction_the_same_kill_is_seen(payers: Payers) -> None:
    """The bug, planted: a kill between the user's commit and the settlement leaves an effect without its success."""
    ids = await payers.enqueue(range(1))
    worker = payers.worker(crash="after:0", outside="1")
    assert await anyio.to_thread.run_sync(worker.wait, 30) == -signal.SIGKILL
    with pytest.raises(AssertionError, match="an effect without its success"):
        await payers.judge(ids)
    worker = payers.worker(outside="1")
    await payers.finished(ids)
    with pytest.raises(AssertionError, match="an effect happened twice"):
        await payers.judge(ids)


# --- a commit whose answer is lost on the way -----------------------------------------------------------------------

SERVERS = [kind for kind in KINDS if kind != "sqlite"]


def at_the_commit_of(words: bytes, where: Where) -> Plan:
    """The COMMIT that follows these words on their connection, once."""
    said: set[int] = set()
    struck = False

    def plan(request: Request) -> Fault | None:
        nonlocal struck
        if words in request.text:
            said.add(request.connection)
        if struck or b"COMMIT" not in request.text or request.connection not in said:
            return None
        struck = True
        return Fault(where)

    return plan


@pytest.mark.parametrize("kind", SERVERS)
@pytest.mark.parametrize("where", ["before", "after", "mid"])
async def test_a_connection_that_breaks_around_the_commit_leaves_one_effect(
    kind: str, where: Where, shared_server: Callable[[str], Server], tmp_path: Path
) -> None:
    """The wire is cut at the COMMIT itself, and the worker finds out what became of it."""
    server = shared_server(kind)
    direct = address(kind, tmp_path, shared_server)
    attempts: list[int] = []
    async with ledger_at(direct, kind) as ledger:
        with Proxy(server) as proxy:
            app = App(proxy.url(direct), lease="10s")

            async def pay(n: int, ctx: Ctx = inject()) -> None:
                attempts.append(ctx.attempt)
                async with ctx.transaction() as tx:
                    if ctx.attempt == 1:
                        proxy.plan = at_the_commit_of(ledger.table.encode(), where)
                    await tx.execute(ledger.insert, n)

            task = app.task(pay, retry=3)
            async with app.worker():
                handle = await task.enqueue(7)
                await handle.result(timeout="30s")
            assert proxy.injected[where] == 1
        assert await ledger.rows() == [7]
    assert attempts == ([1, 2] if where == "before" else [1])
