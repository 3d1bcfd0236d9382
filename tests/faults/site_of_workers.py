"""A folder with a ledger, a store, and real workers on it: a file in the folder, or a namespace on a server."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio

from taskweave import App
from taskweave.abc import TaskStore
from taskweave.connect import connect
from taskweave.core.job import Job
from taskweave.core.verbs import Load

HERE = Path(__file__).parent
ROUND, ROUNDS_MAX = 100, 20


async def until(condition: Callable[[], bool], seconds: float = 40) -> None:
    """Other processes have no event for this test to wait for, so it looks again."""
    with anyio.fail_after(seconds):
        while not condition():
            await anyio.sleep(0.01)


def loop_of(anyio_backend: tuple[str, dict[str, Any]]) -> str:
    """The name of the event loop under test, for a process that is to run on it."""
    name, options = anyio_backend
    return "uvloop" if options.get("use_uvloop") else name


class Site:
    """A folder with a ledger, a store, and the workers that were started on it (children of this test alone)."""

    def __init__(self, folder: Path, backend: str, url: str | None = None) -> None:
        self.folder, self.backend = folder, backend
        self.url = url or f"sqlite:///{folder}/jobs.db"
        self.workers: list[subprocess.Popen[str]] = []
        self.sent = 0  # steps, by `strike`

    def worker(self, *words: str) -> subprocess.Popen[str]:
        """Start a worker and return when it says that it is up."""
        worker = subprocess.Popen(
            [sys.executable, str(HERE / "ledger_app.py"), str(self.folder), self.backend, *words],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "LEDGER_DIR": str(self.folder), "LEDGER_STORE": self.url},
        )
        self.workers.append(worker)
        assert worker.stdout is not None
        assert worker.stdout.readline() == "up\n"
        return worker

    async def kill_amid(self, worker: subprocess.Popen[str], and_do: Callable[[], None] | None = None) -> int:
        """SIGKILL at an instant at which it runs jobs, and `and_do` at the same; returns how many it ran."""
        with anyio.fail_after(40):
            while True:
                worker.send_signal(signal.SIGSTOP)  # what it has begun and not ended cannot end while we count
                ran = self.unended(worker.pid)
                if ran:
                    if and_do is not None:
                        and_do()
                    worker.kill()
                    await anyio.to_thread.run_sync(worker.wait)
                    return ran
                worker.send_signal(signal.SIGCONT)
                await anyio.sleep(0.002)

    async def strike(self, workers: list[subprocess.Popen[str]], do: Callable[[], None]) -> list[str]:
        """Enqueue steps, and do it at an instant at which these workers run some; returns the ids acknowledged."""
        ids: list[str] = []
        for _ in range(ROUNDS_MAX):
            numbers = range(self.sent, self.sent + ROUND)
            self.sent += ROUND
            ids += await self.enqueue("step", numbers, max_lost=20)
            if await self.amid(workers, self.sent, do):
                return ids
        raise AssertionError("every round was over before the test looked: it would prove nothing")

    async def amid(self, workers: list[subprocess.Popen[str]], ends: int, do: Callable[[], None]) -> bool:
        """Do it at an instant at which these workers run jobs; False when so many jobs have ended before one came."""
        with anyio.fail_after(40):
            while True:
                for worker in workers:
                    worker.send_signal(signal.SIGSTOP)
                try:
                    if sum(self.unended(worker.pid) for worker in workers):
                        do()
                        return True
                    if len(self.count("end")) >= ends:
                        return False
                finally:
                    for worker in workers:
                        worker.send_signal(signal.SIGCONT)
                await anyio.sleep(0.002)

    def unended(self, pid: int) -> int:
        """How many steps this process has begun and not ended, by the ledger."""
        words = Counter(line[0] for line in self.lines() if line[-1] == str(pid))
        return words["start"] - words["end"] - words["stopped"]

    def command(self, *words: str) -> subprocess.Popen[str]:
        """Start `taskweave WORDS...`; what it says is in `said()`."""
        with self.log.open("w") as out:
            command = subprocess.Popen(
                [sys.executable, "-m", "taskweave", *words],
                cwd=HERE,
                stdout=out,
                stderr=out,
                text=True,
                start_new_session=True,
                env={**os.environ, "LEDGER_DIR": str(self.folder), "LEDGER_STORE": self.url},
            )
        self.workers.append(command)
        return command

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def said(self) -> str:
        return self.log.read_text()

    def store(self) -> TaskStore:
        """A store on the same jobs, unopened."""
        return connect(self.url)

    async def enqueue(self, task: str, numbers: range, **options: Any) -> list[str]:
        """Have these jobs accepted; returns their ids."""
        app = App(self.url)

        async def any_task(n: int) -> None: ...

        sent = app.task(any_task, name=task, **options)
        async with app:
            return [handle.id for handle in await sent.enqueue_many([(n,) for n in numbers])]

    async def jobs(self, ids: list[str]) -> list[Job]:
        """Those of these jobs that are there."""
        async with self.store() as store:
            found = await store.apply(Load(tuple(ids)))
            return [job for job in found if job is not None]

    async def settled(self, ids: list[str], seconds: float = 30) -> list[Job]:
        """These jobs, when all of them have finished."""
        with anyio.fail_after(seconds):
            async with self.store() as store:
                while True:
                    found = [job for job in await store.apply(Load(tuple(ids))) if job is not None]
                    if all(job.finished for job in found):
                        return found
                    await anyio.sleep(0.05)

    def lines(self) -> list[list[str]]:
        ledger = self.folder / "ledger"
        return [line.split() for line in ledger.read_text().splitlines()] if ledger.exists() else []

    def count(self, word: str) -> Counter[int]:
        return Counter(int(line[1]) for line in self.lines() if line[0] == word)

    async def check(self) -> None:
        """The store's own check of itself."""
        if self.url.startswith("sqlite:"):
            with sqlite3.connect(self.folder / "jobs.db") as connection:
                assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            connection.close()
        async with self.store() as store:
            assert await store.check() == []  # type: ignore[attr-defined]  # an ability of stores that outlive a process

    def end(self) -> None:
        for worker in self.workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGCONT)
                worker.kill()
            worker.wait(20)
            if worker.stdout is not None:
                worker.stdout.close()
