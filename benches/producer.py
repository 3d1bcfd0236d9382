"""The other process of `measures.latency_across`: one job every 20 ms, its argument the instant just before."""

from __future__ import annotations

import sys
import time
from typing import Any

import anyio

from taskweave import App


async def note(sent: int) -> None:
    """Runs in the worker."""


async def main(path: str, jobs: str) -> None:
    app = App(f"sqlite:///{path}")
    task: Any = app.task(note, name="note")
    async with app:
        for _ in range(int(jobs)):
            await anyio.sleep(0.02)
            await task.enqueue(time.time_ns())


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:])
