"""Webhooks arrive more than once; the work is done once.

A shop's payment provider repeats a delivery until it is answered. The event's own id is the unique key, and its
window outlives every repetition.
"""

import anyio

from taskweave import App, Priority, Unique

app = App("memory://")
shipped: list[str] = []


@app.task(unique=Unique(by="event", within="3d"), tags={"source": "payments"})
async def ship(event: str, order: str) -> str:
    shipped.append(order)
    return f"shipped {order}"


async def deliver(event: str, order: str) -> None:
    """What the HTTP handler does with one delivery."""
    priority = Priority.HIGH if order.startswith("express") else Priority.NORMAL
    job = await ship.options(priority=priority).enqueue(event, order)
    print(f"{event} {order}: {'seen before, same job' if job.enqueued.deduplicated else 'accepted'}")


async def main() -> None:
    async with app:
        await deliver("evt_1", "book")
        await deliver("evt_1", "book")
        await deliver("evt_2", "express lamp")
        async with app.worker(concurrency=1):
            await deliver("evt_1", "book")
            jobs = [job async for job in app.find(task="webhook.ship")]
            print(sorted([await app.handle(job.id).result(timeout="10s") for job in jobs]))
    print(f"{len(shipped)} shipments, {shipped[0]} first")


if __name__ == "__main__":
    anyio.run(main)
