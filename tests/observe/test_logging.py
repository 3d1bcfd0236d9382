"""Lines of logs: one object each, with the job that they belong to, and nothing that can forge a line."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import pytest

from taskweave.core.events import Ending, RunEnded
from taskweave.core.job import Failure, Spec, Verb
from taskweave.core.verbs import Claimed, Settlement
from taskweave.observe.ends import LogObserver
from taskweave.observe.logging import JobFields, configure_logging, current

FIELDS = JobFields("0190-1", "pkg.send", "mail", 2, "w1", "00-abc-def-01")


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logging(json=True, stream=stream)
    yield stream
    root.handlers[:] = before
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.proves(112)
def test_a_line_has_the_fields_of_the_job_it_was_logged_in(stream: io.StringIO) -> None:
    token = current.set(FIELDS)
    try:
        logging.getLogger("somebody.elses.library").warning("hello %s", "you")
        with ThreadPoolExecutor(1) as pool:
            pool.submit(copy_context().run, logging.getLogger("x").info, "from a thread").result()
    finally:
        current.reset(token)
    logging.getLogger("x").info("outside")
    inside, thread, outside = lines(stream)
    expected = {"job_id": "0190-1", "task": "pkg.send", "queue": "mail", "attempt": 2, "worker": "w1"}
    for line in (inside, thread):
        assert expected.items() <= line.items()
        assert line["trace_id"] == "00-abc-def-01"
    assert inside["message"] == "hello you"
    assert inside["level"] == "warning"
    assert inside["logger"] == "somebody.elses.library"
    assert "job_id" not in outside


@pytest.mark.parametrize("as_json", [True, False])
def test_a_handler_in_another_thread_still_knows_the_job(stream: io.StringIO, as_json: bool) -> None:
    """The filter copies the fields where the record is made, since a queue's listener has another context."""
    import queue
    from logging.handlers import QueueHandler, QueueListener

    configure_logging(json=as_json, stream=stream)
    root = logging.getLogger()
    own = root.handlers[-1]
    waiting: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    relay = QueueHandler(waiting)
    for keep in own.filters:
        relay.addFilter(keep)
    root.handlers[-1] = relay
    listener = QueueListener(waiting, own)
    listener.start()
    token = current.set(FIELDS)
    logging.getLogger("x").info("relayed")
    current.reset(token)
    listener.stop()
    if as_json:
        assert lines(stream)[0]["job_id"] == "0190-1"
    else:
        assert "relayed  [pkg.send 0190-1 attempt 2]" in stream.getvalue()


@pytest.mark.parametrize("evil", ["a\nb", "\x1b[31m", "\u202e", "\u2028", "\ud800", '"}\n{"', "\x00\x7f\x9b"])
def test_no_text_can_forge_a_line_or_drive_a_terminal(stream: io.StringIO, evil: str) -> None:
    for as_json in (True, False):
        configure_logging(json=as_json, stream=stream)
        stream.truncate(0)
        stream.seek(0)
        logging.getLogger("x").info("said %s", evil, extra={"note": evil})
        text = stream.getvalue()
        assert text.count("\n") == 1
        assert text.rstrip("\n").isprintable()
        text.encode()
        if as_json:
            assert json.loads(text)["message"] == f"said {evil}"
            assert json.loads(text)["note"] == evil


def test_an_exception_is_text_in_the_same_line(stream: io.StringIO) -> None:
    try:
        raise ValueError("bad\nthing")
    except ValueError:
        logging.getLogger("x").exception("it failed")
    (line,) = lines(stream)
    assert "ValueError: bad\nthing" in str(line["exception"])


def test_an_extra_that_cannot_be_shown_does_not_lose_the_line(stream: io.StringIO) -> None:
    class Mute:
        def __str__(self) -> str:
            raise RuntimeError("no")

    logging.getLogger("x").info("kept", extra={"thing": Mute()})
    assert lines(stream)[0]["thing"] == "<Mute: __str__ raised RuntimeError>"


def test_configuring_twice_writes_each_line_once(stream: io.StringIO) -> None:
    configure_logging(json=True, stream=stream)
    logging.getLogger("x").info("once")
    assert len(lines(stream)) == 1


def test_ends_are_logged_when_they_are_durable_and_without_arguments(stream: io.StringIO) -> None:
    observer = LogObserver(worker="w1", successes=True)
    spec = Spec("id1", "send", "mail", b'[["secret"],{}]', max_attempts=2)
    failure = Failure("ValueError", "no such address")
    for attempt in (1, 2):
        job = Claimed(spec, attempt, attempt, 0, 0, 0)
        observer.started([job])
        observer.ended(RunEnded("id1", attempt, Ending.RAISED, failure=failure), job, 1_500_000)
        assert len(lines(stream)) == attempt - 1
        observer.settled([Settlement("id1", attempt, Verb.RETRY, delay_us=3_000_000, error=failure)])
    first, second = lines(stream)
    assert first["message"] == "retried after 1.500 s, again in 3 s: ValueError: no such address"
    assert first["level"] == "warning"
    assert str(second["message"]).startswith("failed after")
    assert second["level"] == "error"
    assert (first["task"], first["attempt"], first["worker"]) == ("send", 1, "w1")
    assert "secret" not in stream.getvalue()
