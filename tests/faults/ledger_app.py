"""The program of the fault tests: a worker whose tasks write what they do into a ledger outside the store.

`python ledger_app.py WORK_DIR BACKEND [until-idle]`, on the store at LEDGER_STORE, without it on a file in the folder;
the ledger is one O_APPEND line per start and per end, so that a broken store cannot hide a double run.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import anyio

from taskweave import App, Ctx, Retry, inject

DIR = Path(sys.argv[1] if __name__ == "__main__" else os.environ["LEDGER_DIR"])
app = App(os.environ.get("LEDGER_STORE", f"sqlite:///{DIR}/jobs.db"))


def note(*words: object) -> None:
    line = " ".join(map(str, (*words, os.getpid()))) + "\n"
    ledger = os.open(DIR / "ledger", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(ledger, line.encode())
    finally:
        os.close(ledger)


@app.task(name="step")
async def step(n: int, ctx: Ctx = inject()) -> int:
    note("start", n, ctx.fence)
    try:
        await anyio.sleep(0.005)
    except BaseException:
        note("stopped", n, ctx.fence)
        raise
    note("end", n, ctx.fence)
    return n


@app.task(name="hold")
async def hold(n: int, ctx: Ctx = inject()) -> int:
    """Runs until the file `go` is there; its clean-up is noted."""
    note("start", n, ctx.fence)
    try:
        while not (DIR / "go").exists():
            await anyio.sleep(0.01)
    finally:
        note("cleaned", n, ctx.fence)
    note("end", n, ctx.fence)
    return n


@app.task(name="bomb", max_lost=2)
async def bomb(n: int, ctx: Ctx = inject()) -> None:
    """Takes its worker with it."""
    note("start", n, ctx.fence)
    os._exit(9)


@app.task(name="once", delivery="at_most_once")
async def once(n: int, ctx: Ctx = inject()) -> None:
    note("start", n, ctx.fence)
    os._exit(9)


@app.task(name="child", run_in="process", retry=Retry(2, base="1ms"))
def child(n: int) -> None:
    note("start", n, 0)
    os._exit(3)


async def main(until_idle: bool) -> None:
    async with app:
        executor = app.executor(concurrency=20, lease="1s", maintain="100ms", poll="50ms", grace="2s")
        print("up", flush=True)
        await executor.run(signals=True, until_idle=until_idle)


if __name__ == "__main__":
    backend = sys.argv[2]
    options = {"use_uvloop": True} if backend == "uvloop" else {}
    anyio.run(
        main,
        "until-idle" in sys.argv,
        backend="trio" if backend == "trio" else "asyncio",
        backend_options=options,
    )
