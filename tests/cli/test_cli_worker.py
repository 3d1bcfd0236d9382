"""A worker process: it drains on signals, shows its metrics on a real port, and logs with the fields of the job."""

from __future__ import annotations

import json
import re
import signal
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from command_line import Running, in_app
from prometheus_client.parser import text_string_to_metric_families

from taskweave.core.job import State

Start = Callable[..., Running]
BOTH = pytest.mark.parametrize("backend", ["asyncio", "trio", "uvloop"])


def enqueue(loaded: Any, *calls: tuple[str, tuple[Any, ...]]) -> list[str]:
    async def run() -> list[str]:
        return [(await getattr(loaded, task).enqueue(*args)).id for task, args in calls]

    return in_app(loaded.app, run)


def states(loaded: Any, ids: list[str]) -> list[tuple[str, int]]:
    async def run() -> list[tuple[str, int]]:
        views = [await loaded.app.get(id) for id in ids]
        return [(view.state.value, view.attempt) for view in views]

    return in_app(loaded.app, run)


@BOTH
@pytest.mark.proves(41)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_what_runs_and_claims_nothing_more(
    running: Start, loaded: Any, folder: Path, backend: str, number: signal.Signals
) -> None:
    go = folder / "go"
    ids = enqueue(loaded, ("patient", (str(go),)), ("hello", ("never",)))
    worker = running("worker", "jobsapp.py", "--concurrency", "1", "--backend", backend)
    worker.until("begun")
    worker.signal(number)
    worker.until("draining")
    go.write_text("now")
    assert worker.exit_code() == 0, worker.lines
    assert states(loaded, ids) == [("succeeded", 1), ("ready", 0)]


@BOTH
@pytest.mark.proves(41)
def test_a_second_signal_gives_the_running_jobs_back_at_once(
    running: Start, loaded: Any, folder: Path, backend: str
) -> None:
    ids = enqueue(loaded, ("patient", (str(folder / "never"),)))
    worker = running("worker", "jobsapp.py", "--backend", backend, "--grace", "1h")
    worker.until("begun")
    worker.signal(signal.SIGTERM)
    worker.until("draining")
    worker.signal(signal.SIGTERM)
    assert worker.exit_code() == 0, worker.lines
    assert states(loaded, ids) == [("ready", 0)]


@pytest.mark.proves(41)
def test_the_grace_is_bounded(running: Start, loaded: Any, folder: Path) -> None:
    ids = enqueue(loaded, ("patient", (str(folder / "never"),)))
    worker = running("worker", "jobsapp.py", "--grace", "50ms")
    worker.until("begun")
    worker.signal(signal.SIGTERM)
    assert worker.exit_code() == 0, worker.lines
    assert states(loaded, ids) == [("ready", 0)]


@BOTH
@pytest.mark.proves(41)
def test_a_thread_that_sleeps_in_c_does_not_keep_a_drained_worker(
    running: Start, loaded: Any, folder: Path, backend: str
) -> None:
    """I24: the exit comes at most 2 s after the grace."""
    ids = enqueue(loaded, ("stuck", ()))
    worker = running("worker", "jobsapp.py", "--grace", "1s", "--backend", backend)
    worker.until("asleep")
    began = time.monotonic()
    worker.signal(signal.SIGTERM)
    assert worker.exit_code() == 0, worker.lines
    assert time.monotonic() - began <= 1.0 + 2.0
    assert any("task jobsapp.stuck does not stop" in line and ids[0] in line for line in worker.lines), worker.lines
    assert states(loaded, ids) == [("ready", 0)]


@BOTH
def test_a_worker_whose_file_is_removed_says_so_and_ends(
    running: Start, loaded: Any, folder: Path, backend: str
) -> None:
    """It would otherwise wait for ever on a file that nobody else can see."""
    ids = enqueue(loaded, ("patient", (str(folder / "never"),)))
    worker = running("worker", "jobsapp.py", "--backend", backend)
    worker.until("begun")
    for file in folder.glob("jobs.db*"):
        file.unlink()
    assert worker.exit_code() == 1, (ids, worker.lines)
    said = [line for line in worker.lines if line.startswith("error:")]
    assert len(said) == 1
    assert "its file was removed while it was open" in said[0]
    assert not any("Traceback" in line for line in worker.lines)


def test_dev_ends_although_a_thread_sleeps_in_c(running: Start, loaded: Any) -> None:
    enqueue(loaded, ("stuck", ()))
    dev = running("dev", "jobsapp.py")
    dev.until("asleep")
    began = time.monotonic()
    dev.signal(signal.SIGINT)
    assert dev.exit_code() in (0, 130), dev.lines
    assert time.monotonic() - began <= 2.0 + 2.0
    assert any("left behind" in line for line in dev.lines), "its worker drained, it was not killed"


def scrape(url: str) -> dict[tuple[str, ...], float]:
    with urllib.request.urlopen(url, timeout=10) as answer:
        text = answer.read().decode()
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@BOTH
@pytest.mark.proves(14, 141)
def test_the_counts_of_a_scrape_equal_the_store(running: Start, loaded: Any, folder: Path, backend: str) -> None:
    go = folder / "go"
    calls = [("hello", (f"{number}",)) for number in range(5)] + [("broken", ("x",)) for _ in range(3)]
    enqueue(loaded, *calls, ("patient", (str(go),)))
    worker = running("worker", "jobsapp.py", "--backend", backend, "--metrics", ":0")
    found = re.search(r"http://127\.0\.0\.1:\d+/metrics", worker.until("metrics on"))
    assert found

    async def ended() -> None:
        with anyio.fail_after(30):
            while sum(each.count(State.SUCCEEDED, State.FAILED) for each in await loaded.app.queues()) < 8:
                await anyio.sleep(0.01)

    in_app(loaded.app, ended)
    samples = scrape(found[0])
    assert samples["taskweave_attempts_started_total", "default", "jobsapp.hello"] == 5
    assert samples["taskweave_attempts_started_total", "mail", "jobsapp.broken"] == 6
    settled = {key[1:]: value for key, value in samples.items() if key[0] == "taskweave_attempts_settled_total"}
    assert settled == {
        ("succeeded", "default", "jobsapp.hello"): 5,
        ("retried", "mail", "jobsapp.broken"): 3,
        ("failed", "mail", "jobsapp.broken"): 3,
    }
    assert samples["taskweave_queue_jobs", "default", "succeeded"] == 5
    assert samples["taskweave_queue_jobs", "mail", "failed"] == 3
    assert samples["taskweave_queue_jobs", "default", "running"] == 1
    assert samples["taskweave_slots_used",] == 1
    assert samples["taskweave_run_seconds_count", "default", "jobsapp.hello"] == 5
    assert samples["taskweave_wait_seconds_count", "mail", "jobsapp.broken"] == 6
    assert samples["taskweave_store_call_seconds_count", "exchange"] > 0
    assert samples["process_resident_memory_bytes",] > 1 << 20
    assert samples["process_cpu_seconds_total",] > 0
    go.write_text("now")
    worker.signal(signal.SIGTERM)
    assert worker.exit_code() == 0


@BOTH
@pytest.mark.proves(112)
def test_every_line_of_a_json_log_is_an_object_with_the_fields_of_its_job(
    running: Start, loaded: Any, backend: str
) -> None:
    hello, broken = enqueue(loaded, ("hello", ("s3cret",)), ("broken", ("s3cret",)))
    worker = running("worker", "jobsapp.py", "--log", "json", "--until-idle", "--log-successes", "--backend", backend)
    assert worker.exit_code() == 0
    lines = [json.loads(line) for line in worker.lines]
    by_job: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        by_job.setdefault(line.get("job_id", ""), []).append(line)
    own = next(line for line in by_job[hello] if line["logger"] == "users.own")
    assert (own["task"], own["queue"], own["attempt"]) == ("jobsapp.hello", "default", 1)
    assert {line["worker"] for line in by_job[hello]} == {own["worker"]}
    assert own["worker"]
    assert "trace_id" in own
    assert [line["message"].split()[0] for line in by_job[hello]] == ["saying", "succeeded"]
    assert [(line["message"].split()[0], line["attempt"]) for line in by_job[broken]] == [("retried", 1), ("failed", 2)]
    assert "s3cret" not in "".join(worker.lines)


def test_another_store_takes_what_tasks_enqueue_too(running: Start, loaded: Any, folder: Path) -> None:
    (folder / "chain.py").write_text(
        "from taskweave import App\n"
        "app = App('sqlite:///own.db')\n"
        "@app.task\n"
        "async def second() -> None: ...\n"
        "@app.task\n"
        "async def first() -> None:\n"
        "    await second.enqueue()\n"
    )
    loaded.app.add(lambda: None, name="chain.first")

    async def run() -> None:
        await loaded.app.enqueue("chain.first")

    in_app(loaded.app, run)
    worker = running("worker", "chain.py", "--store", "sqlite:///jobs.db", "--until-idle")
    assert worker.exit_code() == 0, worker.lines
    assert not (folder / "own.db").exists()

    async def tasks() -> list[tuple[str, str]]:
        return sorted([(view.task, view.state.value) async for view in loaded.app.find()])

    assert in_app(loaded.app, tasks) == [("chain.first", "succeeded"), ("chain.second", "succeeded")]


def test_only_the_queues_that_are_named_are_taken_from(running: Start, loaded: Any) -> None:
    ids = enqueue(loaded, ("hello", ("x",)), ("broken", ("x",)))
    worker = running("worker", "jobsapp.py", "--queues", "mail=3", "--until-idle")
    assert worker.exit_code() == 0
    assert [state for state, _ in states(loaded, ids)] == ["ready", "failed"]
