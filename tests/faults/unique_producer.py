"""A process that enqueues one unique key so many times, and says how each went: `unique_producer.py STORE COUNT`."""

from __future__ import annotations

import sys

import anyio

from taskweave import App, Unique

app = App(sys.argv[1] if "://" in sys.argv[1] else f"sqlite:///{sys.argv[1]}")


@app.task(name="charge", unique=Unique(by=("order",)))
async def charge(order: str, note: int) -> None: ...


async def main(count: int) -> None:
    async with app:
        print("up", flush=True)
        await anyio.to_thread.run_sync(sys.stdin.readline)  # all begin at once
        for number in range(count):
            handle = await charge.enqueue("order-7", number)
            print("deduplicated" if handle.deduplicated else "created", handle.id, flush=True)


if __name__ == "__main__":
    anyio.run(main, int(sys.argv[2]))
