"""What users do, from end to end and on every store: the API and the command line agree wherever the jobs live.

What each verb means on each store is the conformance suite's matter (tests/conformance); here it is shown that an app,
its workers and the commands work on all of them alike.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
import servers
from click.testing import CliRunner
from server_fixtures import required

from taskweave import App, Ctx, JobFailed, JobNotFound, Retry, State, Unique
from taskweave.cli import root
from taskweave.connect import connect
from taskweave.testing.places import Drops

pytestmark = pytest.mark.anyio
KINDS = ("memory", "sqlite", "postgres", "redis", "mariadb")
SHARED = KINDS[1:]
PRODUCER = Path(__file__).parents[1] / "faults" / "unique_producer.py"
PROCESSES, EACH = 4, 50


@pytest.fixture
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[str]:
    """The address of an empty store of this kind, which is removed afterwards."""
    kind: str = request.param
    if kind == "memory":
        yield "memory://"
    elif kind == "sqlite":
        yield f"sqlite:///{tmp_path}/jobs.db"
    else:
        required(kind)
        address = servers.shared(kind).url(f"every_{secrets.token_hex(4)}")
        yield address
        async with connect(address) as store:
            assert isinstance(store, Drops)
            await store.drop()


every_store = pytest.mark.parametrize("url", KINDS, indirect=True)
every_shared_store = pytest.mark.parametrize("url", SHARED, indirect=True)


async def command(url: str, *args: str) -> Any:
    """What the command says, as JSON; it runs an event loop of its own, so in a thread."""

    def run() -> Any:
        done = CliRunner().invoke(root, [*args, "--json", "--store", url], prog_name="taskweave")
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    return await anyio.to_thread.run_sync(run)


@pytest.mark.proves(1)
@every_store
async def test_jobs_are_managed(url: str) -> None:
    """Enqueue, get, list, update, cancel, retry and delete."""
    app = App(url)
    fails = [True]

    @app.task(queue="mail", name="greet")
    async def greet(name: str) -> str:
        if name == "bad" and fails[0]:
            raise ValueError("no such name")
        return f"hello {name}"

    async with app:
        good = await greet.options(tags={"who": "ada"}).enqueue("ada")
        bad = await greet.enqueue("bad")
        gone = await greet.options(delay="1h").enqueue("gone")
        assert await gone.cancel("not needed")
        await app.executor().run_until_idle()
        assert await good.result(timeout="10s") == "hello ada"
        with pytest.raises(JobFailed, match="no such name"):
            await bad.result(timeout="10s")
        assert [view.id async for view in app.find(states="failed")] == [bad.id]
        assert [view.id async for view in app.find(tags={"who": "ada"})] == [good.id]
        later = await greet.options(delay="1h").enqueue("later")
        fails[0] = False
        await bad.retry()
        await app.update(later, priority=5, delay=0)
        await app.executor().run_until_idle()
        assert [await each.status() for each in (good, bad, later)] == [State.SUCCEEDED] * 3
        assert await gone.status() is State.CANCELLED
        await app.delete(good)
        with pytest.raises(JobNotFound):
            await app.get(good)
        assert {view.id async for view in app.find()} == {bad.id, later.id, gone.id}


@pytest.mark.proves(1)
@every_shared_store
async def test_the_command_line_agrees_with_the_api(url: str) -> None:
    app = App(url)

    @app.task(queue="mail", name="greet")
    async def greet(name: str) -> str:
        return f"hello {name}"

    async with app:
        done = await greet.options(tags={"n": "1"}).enqueue("größe 🐍")
        await app.executor().run_until_idle()
        waits = await greet.options(delay="1h").enqueue("later")
        listed = (await command(url, "job", "list"))["jobs"]
        expected = [view.to_json() async for view in app.find()]
        assert [one["id"] for one in listed] == [waits.id, done.id]
        assert all(other.items() <= one.items() for one, other in zip(listed, expected, strict=True))
        shown = await command(url, "job", "show", done.id)
        assert (shown["state"], shown["result"]) == ("succeeded", "hello größe 🐍")
        assert [one["id"] for one in (await command(url, "job", "list", "--status", "scheduled"))["jobs"]] == [waits.id]
        (queue,) = (await command(url, "queue", "list"))["queues"]
        assert (queue["queue"], queue["counts"]) == ("mail", {"scheduled": 1, "succeeded": 1})
        assert password(url) not in json.dumps([listed, shown, queue])


def password(url: str) -> str:
    """What must never be shown; a word that stands nowhere, for an address that has none."""
    from urllib.parse import unquote, urlsplit

    return unquote(urlsplit(url).password or "no password at all")


@pytest.mark.proves(4)
@every_shared_store
async def test_a_pause_survives_a_restart_and_stops_nothing_that_runs(url: str) -> None:
    started: list[str] = []

    def new_app() -> tuple[App, Any]:
        app = App(url)

        @app.task(queue="mail", name="note")
        async def note(name: str) -> None:
            started.append(name)

        return app, note

    first, note = new_app()
    async with first:
        assert await first.pause("mail")
        for name in "cd":
            await note.enqueue(name)
    second, note = new_app()
    async with second:
        await second.executor().run_until_idle()
        assert started == []
        (queue,) = await second.queues()
        assert (queue.paused, queue.count(State.READY)) == (True, 2)
        assert queue.oldest_ready_us is not None
        assert await second.resume("mail")
        await second.executor().run_until_idle()
        assert started == ["c", "d"]
        await second.pause("mail")
        await note.enqueue("e")
        assert await second.purge("mail") == 1
        (queue,) = await second.queues()
        assert queue.counts == ((State.SUCCEEDED, 2),)


@pytest.mark.proves(5)
@every_store
async def test_a_hundred_high_start_before_a_hundred_low(url: str) -> None:
    app = App(url, concurrency=1)
    started: list[int] = []

    @app.task(name="count")
    async def count(number: int) -> None:
        started.append(number)

    async with app:
        for number in range(200):
            await count.options(priority=10 if number >= 100 else 0).enqueue(number)
        await app.executor().run_until_idle()
    assert started == [*range(100, 200), *range(100)]


@pytest.mark.proves(8)
@every_shared_store
async def test_two_hundred_enqueues_of_four_processes_make_one_job(url: str) -> None:
    async with connect(url):  # the store is there before they come
        pass
    said = await anyio.to_thread.run_sync(_produced, url)
    assert sorted(word for word, _ in said) == ["created"] + ["deduplicated"] * (PROCESSES * EACH - 1)
    app = App(url)
    async with app:
        jobs = [view.id async for view in app.find()]
    assert {told for _, told in said} == set(jobs)
    assert len(jobs) == 1


def _produced(url: str) -> list[list[str]]:
    with ExitStack() as stack:
        producers = [stack.enter_context(_producer(url)) for _ in range(PROCESSES)]
        for producer in producers:
            assert producer.stdout is not None
            assert producer.stdout.readline() == "up\n"
        for producer in producers:
            assert producer.stdin is not None
            producer.stdin.write("go\n")
            producer.stdin.flush()
        said = [line.split() for producer in producers for line in producer.communicate(timeout=60)[0].splitlines()]
        assert [producer.returncode for producer in producers] == [0] * PROCESSES
    return said


def _producer(url: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(PRODUCER), url, str(EACH)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(PRODUCER.parents[2])},
    )


@pytest.mark.proves(8)
@every_store
async def test_a_replacement_changes_what_waits(url: str) -> None:
    app = App(url)

    @app.task(name="report", unique=Unique(by="day", on_conflict="replace"))
    async def report(day: str, text: str) -> str:
        return text

    async with app:
        first = await report.options(delay="1h").enqueue("monday", "old")
        second = await report.enqueue("monday", "new")
        assert (second.id, second.deduplicated) == (first.id, True)
        await app.executor().run_until_idle()
        assert await first.result(timeout="10s") == "new"


RETRIES = {
    "fixed": (Retry(3, strategy="fixed", base="40ms", jitter=False), [40_000, 40_000]),
    "linear": (Retry(3, strategy="linear", base="30ms", jitter=False), [30_000, 60_000]),
    "exponential": (Retry(4, base="20ms", jitter=False), [20_000, 40_000, 80_000]),
}


@pytest.mark.proves(15)
@every_store
@pytest.mark.parametrize("way", RETRIES)
async def test_retries_come_when_they_should_and_end_as_a_dead_letter_with_every_error(url: str, way: str) -> None:
    retry, waits = RETRIES[way]
    app = App(url)

    @app.task(name="broken", retry=retry)
    async def broken(ctx: Ctx) -> None:
        raise ValueError(f"attempt {ctx.attempt}")

    async with app:
        handle = await broken.enqueue()
        with anyio.fail_after(20):
            await app.executor().run_until_idle()
        view = await app.get(handle)
    assert view.state is State.FAILED
    messages = [each.error.message for each in view.history if each.error is not None]
    assert messages == [f"attempt {number}" for number in range(1, len(waits) + 2)]
    starts, ends = [each.started_at for each in view.history], [each.ended_at for each in view.history]
    gaps = [(start - end).total_seconds() * 1e6 for start, end in zip(starts[1:], ends[:-1], strict=True)]
    assert all(gap >= wait for gap, wait in zip(gaps, waits, strict=True)), (gaps, waits)
