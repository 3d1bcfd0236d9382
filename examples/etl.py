"""Extract, transform, load: a source that fails now and then, a table that ends complete all the same.

Each page of the source is one job. The source refuses every third request; the policy tries again, and a page is
loaded with its number as the key, so that a page that ran twice would still be there once.
"""

import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio

from taskweave import App, Retry

app = App("memory://")
PAGES, ROWS = 12, 25
TARGET = Path("warehouse.db")


class Source:
    """A shop's orders, page by page; every third request meets a closed door."""

    def __init__(self) -> None:
        self.requests = 0

    def page(self, number: int) -> Iterator[dict[str, str]]:
        self.requests += 1
        if self.requests % 3 == 0:
            raise ConnectionError("the source is tired")
        for row in range(ROWS):
            yield {"order": f"{number}-{row}", "cents": str(100 * number + row), "country": " TH "[row % 2 :]}


source = Source()


@app.task(retry=Retry.exponential("1ms", attempts=5, on=(ConnectionError,)))
def load_page(number: int) -> int:
    rows = [(row["order"], int(row["cents"]) / 100, row["country"].strip()) for row in source.page(number)]
    with sqlite3.connect(TARGET, timeout=10) as connection:
        connection.executemany("INSERT OR REPLACE INTO orders VALUES (?, ?, ?)", rows)
    return len(rows)


async def main() -> None:
    with sqlite3.connect(TARGET) as connection:
        connection.execute("CREATE TABLE orders (id TEXT PRIMARY KEY, amount REAL, country TEXT)")
    async with app.worker(concurrency=1):
        jobs = await load_page.enqueue_many([(number,) for number in range(1, PAGES + 1)])
        loaded = [await job.result(timeout="30s") for job in jobs]
    with sqlite3.connect(TARGET) as connection:
        count, total = connection.execute("SELECT count(*), sum(amount) FROM orders").fetchone()
    print(f"{len(jobs)} pages, {source.requests - len(jobs)} requests refused and repeated")
    print(f"{sum(loaded)} rows loaded, {count} in the table, {total:,.2f} in all")


if __name__ == "__main__":
    if TARGET.exists():
        sys.exit(f"{TARGET} is there already")
    anyio.run(main)
