"""Jobs, queues and dead letters by command: what they say agrees with the API, and changes what the API would."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from command_line import environment, in_app

Invoke = Callable[..., Result]


def store(loaded: Any) -> str:
    return "sqlite:///jobs.db"


def work(loaded: Any) -> list[str]:
    """Three jobs that succeed, two that fail, one that waits; their ids."""

    async def run() -> list[str]:
        handles = [await loaded.hello.options(tags={"n": str(n)}).enqueue(f"w{n}") for n in range(3)]
        handles += [await loaded.broken.enqueue("s3cret") for _ in range(2)]
        await loaded.app.executor().run_until_idle()
        handles.append(await loaded.hello.options(delay="1h").enqueue("later"))
        return [handle.id for handle in handles]

    return in_app(loaded.app, run)


@pytest.mark.proves(1, 33)
def test_a_listing_agrees_with_the_api(invoke: Invoke, loaded: Any) -> None:
    work(loaded)

    async def found() -> list[dict[str, Any]]:
        return [view.to_json() async for view in loaded.app.find()]

    expected = in_app(loaded.app, found)
    listed = json.loads(invoke("job", "list", "--json", "--store", store(loaded)).stdout)
    assert listed["next"] is None
    for one, other in zip(listed["jobs"], expected, strict=True):
        assert other.items() <= one.items()


@pytest.mark.proves(1)
@pytest.mark.parametrize(
    ("options", "number"),
    [
        (("--status", "failed"), 2),
        (("--status", "failed", "--status", "scheduled"), 3),
        (("--queue", "mail"), 2),
        (("--task", "jobsapp.hello"), 4),
        (("--tag", "n=1"), 1),
        (("--tag", "n=1", "--tag", "n=2"), 0),
        (("--limit", "2"), 2),
        (("--queue", "nobody"), 0),
    ],
)
def test_a_listing_can_be_narrowed(invoke: Invoke, loaded: Any, options: tuple[str, ...], number: int) -> None:
    work(loaded)
    listed = json.loads(invoke("job", "list", "--json", "--app", "jobsapp", *options).stdout)
    assert len(listed["jobs"]) == number
    assert (listed["next"] is not None) == ("--limit" in options)


def test_a_listing_goes_on_where_the_last_one_ended(invoke: Invoke, loaded: Any) -> None:
    ids = work(loaded)
    seen: list[str] = []
    after: tuple[str, ...] = ()
    while True:
        page = json.loads(invoke("job", "list", "--json", "--app", "jobsapp", "--limit", "4", *after).stdout)
        seen += [job["id"] for job in page["jobs"]]
        if page["next"] is None:
            break
        after = ("--after", str(page["next"]))
    assert seen == ids[::-1]


def test_a_table_without_a_terminal_is_whole_and_cannot_be_driven_by_a_job(invoke: Invoke, loaded: Any) -> None:
    work(loaded)
    result = invoke("job", "list", "--app", "jobsapp", "--status", "failed")
    assert result.exit_code == 0
    head, *rows = result.stdout.splitlines()
    assert head.split()[:4] == ["id", "task", "queue", "state"]
    assert len(rows) == 2
    for row in rows:
        assert r"ValueError: no such \u001b[31m[bold]address" in row
        assert row.isprintable()


@pytest.mark.proves(1)
def test_a_job_shows_everything_that_is_known_of_it(invoke: Invoke, loaded: Any) -> None:
    ids = work(loaded)
    job = json.loads(invoke("job", "show", ids[3], "--json", "--app", "jobsapp").stdout)
    assert job["args"] == ["s3cret"]
    assert (job["task"], job["queue"], job["state"]) == ("jobsapp.broken", "mail", "failed")
    assert (job["attempt"], job["max_attempts"], job["cause"]) == (2, 2, "exhausted")
    assert job["error"]["type"] == "ValueError"
    assert "Traceback" in job["error"]["traceback"]
    assert [attempt["ending"] for attempt in job["history"]] == ["retry", "fail"]
    for name in ("created_at", "started_at", "finished_at", "tags", "result"):
        assert name in job
    text = invoke("job", "show", ids[3], "--app", "jobsapp").stdout
    assert "attempt 1: retry" in text
    assert "\x1b" not in text
    shown = invoke("job", "show", ids[0], "--app", "jobsapp").stdout
    assert "hello w0" in shown
    assert "tag n" in shown


def test_why_says_in_words_what_a_job_waits_for(invoke: Invoke, loaded: Any) -> None:
    ids = work(loaded)
    assert "It is scheduled: it may start in 59 min" in invoke("job", "why", ids[5], "--app", "jobsapp").stdout
    failed = json.loads(invoke("job", "why", ids[3], "--json", "--app", "jobsapp").stdout)
    assert failed["state"] == "failed"
    assert "dead letter" in failed["why"][0]
    assert failed["why"][-1] == f"To run it again: taskweave job retry {ids[3]}"
    text = invoke("job", "why", ids[3], "--app", "jobsapp").stdout
    assert "\x1b" not in text
    assert invoke("job", "why", "nobody", "--app", "jobsapp").exit_code == 1


@pytest.mark.proves(1)
def test_cancel_retry_and_delete_do_what_they_say(invoke: Invoke, loaded: Any) -> None:
    ids = work(loaded)
    waiting, failed, succeeded = ids[5], ids[3], ids[0]
    dry = invoke("job", "cancel", waiting, "--dry-run", "--app", "jobsapp")
    assert "scheduled" in dry.stdout
    assert "nothing was changed" in dry.stdout
    assert "cancelled" in invoke("job", "cancel", waiting, "--app", "jobsapp").stdout
    refused = invoke("job", "cancel", waiting, succeeded, "nobody", "--json", "--app", "jobsapp")
    assert refused.exit_code == 1
    changes = json.loads(refused.stdout)["changes"]
    assert [change["change"] for change in changes] == ["refused", "refused", "unknown"]
    assert invoke("job", "retry", failed, "--app", "jobsapp").exit_code == 0
    assert invoke("job", "retry", succeeded, "--app", "jobsapp").exit_code == 1
    assert json.loads(invoke("job", "show", failed, "--json", "--app", "jobsapp").stdout)["state"] == "ready"
    assert invoke("job", "delete", succeeded, "--app", "jobsapp").exit_code == 2  # nobody to ask, and no --yes
    assert invoke("job", "delete", succeeded, "--yes", "--dry-run", "--app", "jobsapp").exit_code == 0
    assert invoke("job", "show", succeeded, "--app", "jobsapp").exit_code == 0
    assert invoke("job", "delete", succeeded, "--yes", "--app", "jobsapp").exit_code == 0
    gone = invoke("job", "show", succeeded, "--app", "jobsapp")
    assert gone.exit_code == 1
    assert gone.stderr.startswith(f"error: [TW1301] no job {succeeded}")


@pytest.mark.proves(4)
def test_queues_are_listed_paused_resumed_and_purged(invoke: Invoke, loaded: Any) -> None:
    work(loaded)
    queues = json.loads(invoke("queue", "list", "--json", "--app", "jobsapp").stdout)["queues"]
    counts = {queue["queue"]: queue["counts"] for queue in queues}
    assert counts == {"default": {"scheduled": 1, "succeeded": 3}, "mail": {"failed": 2}}
    assert "is paused" in invoke("queue", "pause", "mail", "--app", "jobsapp").stdout
    assert "was paused already" in invoke("queue", "pause", "mail", "--app", "jobsapp").stdout
    assert "paused" in invoke("queue", "list", "--app", "jobsapp").stdout.splitlines()[2]
    assert "goes on" in invoke("queue", "resume", "mail", "--app", "jobsapp").stdout
    assert "was not paused" in invoke("queue", "resume", "mail", "--app", "jobsapp").stdout
    assert invoke("queue", "purge", "default", "--app", "jobsapp").exit_code == 2
    assert "1 waiting jobs" in invoke("queue", "purge", "default", "--dry-run", "--app", "jobsapp").stdout
    assert "1 jobs of default deleted" in invoke("queue", "purge", "default", "--yes", "--app", "jobsapp").stdout
    assert invoke("queue", "pause", "a\nb", "--app", "jobsapp").stderr.startswith("error: [TW1202]")


@pytest.mark.proves(4)
def test_a_pause_survives_and_holds_what_comes(invoke: Invoke, loaded: Any) -> None:
    invoke("store", "init", "--app", "jobsapp")
    invoke("queue", "pause", "default", "--app", "jobsapp")

    async def run() -> str:
        handle = await loaded.hello.enqueue("x")
        await loaded.app.executor().run_until_idle()
        return (await loaded.app.get(handle.id)).state.value

    assert in_app(loaded.app, run) == "ready"


def test_dead_letters_are_listed_and_run_again(invoke: Invoke, loaded: Any) -> None:
    ids = work(loaded)
    dead = json.loads(invoke("dlq", "list", "--json", "--app", "jobsapp").stdout)["jobs"]
    assert {job["id"] for job in dead} == {ids[3], ids[4]}
    assert "2 dead letters would" in invoke("dlq", "redrive", "--dry-run", "--app", "jobsapp").stdout
    assert invoke("dlq", "redrive", "--app", "jobsapp").exit_code == 2
    assert invoke("dlq", "redrive", "--queue", "default", "--yes", "--app", "jobsapp").exit_code == 0
    assert invoke("dlq", "redrive", ids[3], "--yes", "--app", "jobsapp").stdout.count("will run again") == 1
    assert invoke("dlq", "redrive", "--yes", "--app", "jobsapp").stdout.count("will run again") == 1
    assert json.loads(invoke("dlq", "list", "--json", "--app", "jobsapp").stdout)["jobs"] == []


@pytest.mark.parametrize("terminal", ["xterm", "dumb"])
def test_a_narrow_or_dumb_terminal_sees_whole_ids(loaded: Any, folder: Path, terminal: str) -> None:
    ids = work(loaded)
    ours, theirs = pty.openpty()
    line = [sys.executable, "-m", "taskweave", "job", "list", "--store", store(loaded)]
    env = {**environment(), "TERM": terminal, "COLUMNS": "40"}
    with subprocess.Popen(line, cwd=folder, env=env, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        seen = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # how Linux says that the other side of a terminal is closed
                break
            if not part:
                break
            seen += part
        os.close(ours)
    assert process.returncode == 0
    assert all(id in seen.decode() for id in ids), seen
    assert terminal != "dumb" or b"\x1b" not in seen
