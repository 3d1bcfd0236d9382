"""Right uses: accepted by mypy --strict and by pyright in strict mode, without an ignore. Not run."""

from datetime import UTC, datetime

from taskweave import App, AsyncTask, Call, Ctx, Handle, JobView, Priority, Retry, SyncTask, Transaction, Unique, inject

app = App("sqlite:///shop.db", concurrency=10, queues={"mail": 3, "default": 1})


@app.task
async def fetch(url: str, ctx: Ctx = inject()) -> int:
    return len(url) * ctx.attempt


@app.task(
    queue="mail",
    timeout="30s",
    version=2,
    priority=Priority.HIGH,
    retry=Retry(5, base="1s", cap="5m", on=(OSError,)),
    unique=Unique(by=("tenant", "to"), within="10m", on_conflict="return"),
    delivery="at_least_once",
    tags={"team": "mail"},
)
async def send_mail(tenant: str, to: str, ctx: Ctx = inject()) -> str:
    await ctx.progress(1, 2, "rendering")
    return f"sent to {to} on attempt {ctx.attempt}"


@app.task(run_in="process", timeout="5m", retry=3)
def resize(path: str) -> str:
    return path


async def book(tx: Transaction, amount: int) -> None:
    await tx.execute("INSERT INTO ledger VALUES (?)", amount)


@app.task
async def pay(amount: int, ctx: Ctx = inject()) -> int | None:
    ctx.enqueue(fetch.call("https://example.org"))
    async with ctx.transaction() as tx:
        await book(tx, amount)
        changed: int | None = await tx.execute("INSERT INTO ledger VALUES (?)", amount)
        for row in await tx.fetch("SELECT sum(amount) AS total FROM ledger"):
            print(changed, row[0], row["total"], list(row))
        await fetch.options(tx=tx).enqueue("https://example.org")
        tx.result = amount
    return None


def double(n: int) -> int:
    return n * 2


double_task = app.task(double)
named: SyncTask[[int], int] = app.add(double, name="double", queue="slow")
checked: AsyncTask[[str], int] | AsyncTask[[str, Ctx], int] = fetch


async def main() -> None:
    async with app:
        job: Handle[int] = await fetch.enqueue("https://example.org")
        size: int = await job.result(timeout="10s")
        await send_mail.options(delay="1h", priority=9, attempts=2).enqueue("acme", to="a@b.c")
        await send_mail.options(tx=object(), delay=1).enqueue("acme", "a@b.c")
        await send_mail.options(at=datetime.now(UTC), tags=("urgent",)).enqueue("acme", "a@b.c")
        handles: list[Handle[int]] = await fetch.enqueue_many([("u1",), ("u2",)])
        call: Call[int] = fetch.call("u")
        again: int = await (await call.enqueue(key="k")).result()
        plain: str = resize("a.png")
        local: int = await fetch("u")
        ran: str = await resize.run("a.png")
        async for view in app.wait_for(handles, timeout=5):
            ended: JobView = view
            print(ended.state, ended.args)
        async for found in app.find(states=["failed"], task=resize, tags={"team": "mail"}):
            print(found.error)
        await app.update(job, priority=3)
        print(size, again, plain, local, ran, await app.check_status([job.id]))
    async with app.worker(concurrency=2, queues=("default",)) as executor:
        executor.stop()


def script() -> None:
    handle: Handle[int] = double_task.enqueue_sync(2)
    number: int = handle.result_sync(timeout=3)
    print(number, len(double_task.enqueue_many_sync([(1,)])))


built: App = App.build().store("memory://").queue("a", weight=3).concurrency(10).task(double, name="d").build()
