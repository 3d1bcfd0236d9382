"""A simple queue on a database, as users of small job queues expect it: dispatch, tries, a failed hook, failed jobs.

That the pool of connections is never exceeded is shown in tests/faults/test_server_pools.py.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Sequence
from itertools import pairwise
from typing import Any

import anyio.to_thread
import pytest
import servers
from click.testing import CliRunner
from server_fixtures import required

from taskweave import App, Retry, State
from taskweave.cli import root
from taskweave.connect import connect
from taskweave.core.events import Ending, RunEnded
from taskweave.core.verbs import Claimed, Settlement
from taskweave.testing.places import Drops

pytestmark = pytest.mark.anyio


class Failed:
    """The hook: told of each run that raised."""

    def __init__(self) -> None:
        self.attempts: list[int] = []

    def started(self, jobs: Sequence[Claimed]) -> None: ...

    def ended(self, run: RunEnded, job: Claimed, run_us: int) -> None:
        if run.ending is Ending.RAISED:
            self.attempts.append(job.attempt)

    def settled(self, settled: Sequence[Settlement]) -> None: ...

    def store_called(self, verb: str, took_us: int, problem: str | None) -> None: ...

    def slots(self, used: int, total: int) -> None: ...


@pytest.fixture(params=["postgres", "mariadb"])
async def url(request: pytest.FixtureRequest) -> AsyncGenerator[str]:
    required(request.param)
    address = servers.shared(request.param).url(f"simple_{secrets.token_hex(4)}")
    yield address
    async with connect(address) as store:
        assert isinstance(store, Drops)
        await store.drop()


async def command(url: str, *args: str) -> str:
    def run() -> str:
        done = CliRunner().invoke(root, [*args, "--store", url], prog_name="taskweave")
        assert done.exit_code == 0, done.output
        return done.stdout

    return await anyio.to_thread.run_sync(run)


@pytest.mark.proves(48)
async def test_dispatch_tries_and_failed_jobs(url: str) -> None:
    app, hook, broken, ran = App(url), Failed(), [True], list[Any]()

    @app.task(name="send", retry=Retry(3, base="10ms", jitter=False), timeout="10s")
    async def send(to: str) -> str:
        if broken[0] and to == "bad":
            raise OSError("no route")
        ran.append(to)
        return f"sent to {to}"

    async with app:
        first = await send.enqueue("a")
        queued = await send.options(queue="slow").enqueue("b")
        later = await send.options(delay="20ms").enqueue("c")
        bad = await send.enqueue("bad")
        worse = await send.options(attempts=1).enqueue("bad")
        run = app.executor(queues=["default", "slow"], observers=[hook], poll="20ms", maintain="20ms")
        await run.run_until_idle()
        assert sorted(ran) == ["a", "b", "c"]
        assert [await each.status() for each in (first, queued, later)] == [State.SUCCEEDED] * 3
        assert sorted(hook.attempts) == [1, 1, 2, 3], "the hook is told of each failure"
        view = await app.get(bad)
        starts = [each.started_at for each in view.history]
        waits = [(after - before).total_seconds() for before, after in pairwise(starts)]
        assert waits[0] >= 0.010, waits
        assert waits[1] >= 0.020, "each wait is twice the one before"
        listed = await command(url, "dlq", "list")
        assert bad.id in listed
        assert worse.id in listed
        broken[0] = False
        await command(url, "dlq", "redrive", worse.id, "--yes")
        await command(url, "dlq", "redrive", "--yes")  # all that is left
        await run.run_until_idle()
        assert await bad.result(timeout="10s") == await worse.result(timeout="10s") == "sent to bad"
        assert bad.id not in await command(url, "dlq", "list")
        await app.delete(bad)
        assert await app.handle(worse.id).status() is State.SUCCEEDED
