"""The program of the transaction tests: a worker whose task writes a row of its own in the transaction of its job.

`python paying_app.py WORK_DIR BACKEND`, on the store at PAYING_STORE. It dies at PAYING_CRASH ("inside:17", "after:17":
with SIGKILL, in the block or right after the commit of that number), and stands still before or in its block
(PAYING_HOLD "before" or "inside") while the file `hold` is there.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import anyio

from taskweave import App, Ctx, inject

DIR = Path(sys.argv[1])
KIND = os.environ["PAYING_KIND"]
MARK = {"sqlite": "?", "postgres": "$1", "mysql": "%s"}[KIND]
INSERT = f"INSERT INTO {os.environ['PAYING_TABLE']} (n) VALUES ({MARK})"
CRASH = os.environ.get("PAYING_CRASH", "")
HOLD = os.environ.get("PAYING_HOLD", "")
OUTSIDE = bool(os.environ.get("PAYING_OUTSIDE"))  # the planted bug: the success is settled outside of the transaction

app = App(os.environ["PAYING_STORE"])


def note(*words: object) -> None:
    line = " ".join(map(str, (*words, os.getpid()))) + "\n"
    notes = os.open(DIR / "notes", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(notes, line.encode())
    finally:
        os.close(notes)


def at(point: str, n: int) -> None:
    note(point, n)
    if f"{point}:{n}" == CRASH:
        os.kill(os.getpid(), signal.SIGKILL)


async def held(where: str) -> None:
    while where == HOLD and (DIR / "hold").exists():
        await anyio.sleep(0.01)


@app.task(name="pay", max_lost=50)
async def pay(n: int, ctx: Ctx = inject()) -> int | None:
    note("start", n)
    await held("before")
    if OUTSIDE:
        async with app.store.transaction() as plain:  # type: ignore[attr-defined]  # it transacts
            await plain.execute(INSERT, n)
        at("after", n)
        return n
    async with ctx.transaction() as tx:
        await tx.execute(INSERT, n)
        note("inserted", n)
        await held("inside")
        at("inside", n)
        tx.result = n
    at("after", n)
    return n


async def main() -> None:
    async with app:
        executor = app.executor(
            concurrency=20, lease=os.environ.get("PAYING_LEASE", "3s"), maintain="100ms", poll="50ms"
        )
        print("up", flush=True)
        await executor.run(signals=True)


if __name__ == "__main__":
    anyio.run(main, backend="trio" if sys.argv[2] == "trio" else "asyncio")
