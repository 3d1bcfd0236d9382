"""The floor: a bare loop on the same driver that claims 100, runs each as an anyio task, and completes 100.

No engine, no retry, no fences checked by anything but the statement, no leases renewed: what lies between it and a
drain is what taskweave's guarantees cost. The SQL is the least that keeps results, priority order and a fence.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import Any

import anyio
from floor_servers import BareMysql, BarePostgres, BareRedis, bare_of

CLAIM = 100


async def noop(n: int) -> None:
    """The job that costs nothing."""


class BareMemory:
    """A deque and a dict."""

    async def open(self, path: Path) -> None:
        self.queue: deque[tuple[int, str]] = deque()
        self.running: dict[int, str] = {}

    async def close(self) -> None: ...

    async def fill(self, jobs: int) -> None:
        self.queue.extend((n, json.dumps([[n], {}])) for n in range(jobs))

    async def exchange(self, ended: list[tuple[int, str]]) -> list[tuple[int, str]]:
        for id, _ in ended:
            del self.running[id]
        claimed = [self.queue.popleft() for _ in range(min(CLAIM, len(self.queue)))]
        self.running.update(claimed)
        await anyio.lowlevel.checkpoint()
        return claimed


class BareSqlite:
    """aiosqlite, WAL, one transaction for completing and claiming."""

    def __init__(self, synchronous: str) -> None:
        self.synchronous = synchronous

    async def open(self, path: Path) -> None:
        import aiosqlite

        self.db = await aiosqlite.connect(path / "floor.db", isolation_level=None)
        for statement in (
            "PRAGMA journal_mode=WAL",
            f"PRAGMA synchronous={self.synchronous}",
            "CREATE TABLE job(seq INTEGER PRIMARY KEY, id TEXT UNIQUE, queue TEXT, task TEXT, payload TEXT,"
            " priority INT, run_at INT, state INT, fence INT, attempt INT, lease_until INT, result TEXT)",
            "CREATE INDEX ready ON job(queue, priority DESC, run_at, seq) WHERE state=0",
            "CREATE INDEX lease ON job(lease_until) WHERE state=1",
        ):
            await self.db.execute(statement)

    async def close(self) -> None:
        await self.db.close()

    async def fill(self, jobs: int) -> None:
        await self.db.execute("BEGIN IMMEDIATE")
        await self.db.executemany(
            "INSERT INTO job(id, queue, task, payload, priority, run_at, state, fence, attempt)"
            " VALUES(?, 'default', 'noop', ?, 0, 0, 0, 0, 0)",
            [(f"01234567-89ab-7cde-8000-{n:012x}", json.dumps([[n], {}])) for n in range(jobs)],
        )
        await self.db.execute("COMMIT")

    async def exchange(self, ended: list[tuple[int, str]]) -> list[tuple[int, str]]:
        db = self.db
        await db.execute("BEGIN IMMEDIATE")
        if ended:
            await db.executemany(
                "UPDATE job SET state=2, result=?2, lease_until=NULL WHERE seq=?1 AND state=1 AND fence=1", ended
            )
        now = int(time.time() * 1e6)
        rows: Any = await db.execute_fetchall(
            "UPDATE job SET state=1, fence=fence+1, attempt=attempt+1, lease_until=? WHERE seq IN (SELECT seq FROM job"
            " WHERE queue='default' AND state=0 AND run_at<=? ORDER BY priority DESC, run_at, seq LIMIT ?)"
            " RETURNING seq, payload",
            (now + 30_000_000, now, CLAIM),
        )
        await db.execute("COMMIT")
        return [tuple(row) for row in rows]


Bare = BareMemory | BareSqlite | BarePostgres | BareRedis | BareMysql


async def drain(bare: Bare, jobs: int, path: Path) -> tuple[float, float]:
    """Seconds, and CPU seconds, from the first claim until the last completion."""
    from taskweave._bridge import open_bridge

    async with open_bridge() as bridge:
        await bridge.run(bare.open, path)
        await bridge.run(bare.fill, jobs)
        ended: list[tuple[int, str]] = []

        async def one(id: int, payload: str) -> None:
            args, kwargs = json.loads(payload)
            ended.append((id, json.dumps(await noop(*args, **kwargs))))

        cpu, began, done = time.process_time(), time.perf_counter(), 0
        while done < jobs:
            batch, ended = ended, []
            if isinstance(bare, BareMemory):
                claimed = await bare.exchange(batch)
            else:
                claimed = await bridge.run(bare.exchange, batch)
            done += len(batch)
            async with anyio.create_task_group() as group:
                for id, payload in claimed:
                    group.start_soon(one, id, payload)
        took, cpu = time.perf_counter() - began, time.process_time() - cpu
        await bridge.run(bare.close)
        return took, cpu


def bare_on(kind: str) -> Bare:
    """memory, sqlite, sqlite-full, or `server`, whose address is in the environment, out of others' sight."""
    if kind == "memory":
        return BareMemory()
    if kind == "server":
        return bare_of(os.environ["TASKWEAVE_BENCH_STORE"])
    return BareSqlite("FULL" if kind == "sqlite-full" else "NORMAL")


def main(loop: str, kind: str, jobs: str) -> None:
    bare = bare_on(kind)
    options: dict[str, Any] = {"use_uvloop": True} if loop == "uvloop" else {}
    with tempfile.TemporaryDirectory(prefix="taskweave-bench-") as folder:
        took, cpu = anyio.run(
            drain,
            bare,
            int(jobs),
            Path(folder),
            backend="trio" if loop == "trio" else "asyncio",
            backend_options=options,
        )
    print(json.dumps({"jobs_per_second": int(jobs) / took, "cpu_us_per_job": cpu / int(jobs) * 1e6}))


if __name__ == "__main__":
    main(*sys.argv[1:])
