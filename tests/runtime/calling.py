"""What the tests of the run modes share: a task made of a function, one call of it, and what it says meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import servers

from taskweave._runtime.child import codec_of
from taskweave._runtime.ctx import Facts
from taskweave._runtime.ends import RawEnd
from taskweave._runtime.process import ProcessMode
from taskweave._runtime.work import Work
from taskweave.core.job import Progress, Spec


class Heard:
    """A sink that keeps what it is told."""

    def __init__(self) -> None:
        self.progresses: list[Progress] = []
        self.specs: list[Spec] = []
        self.told = anyio.Event()

    def progress(self, progress: Progress) -> None:
        self.progresses.append(progress)
        self.told.set()

    def spawn(self, spec: Spec) -> None:
        self.specs.append(spec)


def work_of(fn: Callable[..., Any], name: str | None = None) -> Work:
    task = name or fn.__name__
    ctx = "ctx" if "ctx" in fn.__annotations__ else None
    return Work(task, fn, codec_of(fn, task, ctx, 1), "process", ctx=ctx)


async def call(mode: ProcessMode, fn: Callable[..., Any], *args: Any, heard: Heard | None = None) -> RawEnd:
    work = work_of(fn)
    facts = Facts("job-1", work.name, "default", 2, 3, 5, 0, tags=(("color", "red"),))
    with anyio.fail_after(60):
        return await mode.run_raw(work, work.codec.encode(args, {}), "json", 1, facts, heard or Heard())


def fifo(path: Path) -> str:
    os.mkfifo(path)
    return str(path)


async def read(path: str) -> str:
    """What is written into the fifo: returns when its writer has closed it."""
    with anyio.fail_after(30):
        return await anyio.to_thread.run_sync(Path(path).read_text, abandon_on_cancel=True)


async def gone(pidfd: int, seconds: float) -> None:
    """Return when the process has ended. Raises TimeoutError."""
    try:
        with anyio.fail_after(seconds):
            await anyio.wait_readable(pidfd)
    finally:
        os.close(pidfd)


def children() -> set[int]:
    """The processes that this one has started and not reaped, but for the servers of other tests."""
    found: set[int] = set()
    for thread in os.listdir("/proc/self/task"):
        found |= {int(pid) for pid in Path(f"/proc/self/task/{thread}/children").read_text().split()}
    return found - servers.pids()
