"""Logs through the standard library, each record with the fields of the job that it was made in.

The runner sets `current` around every attempt; contextvars carry it into the task's own coroutines and threads, and
`JobFilter` copies it onto each record where the record is made (a handler in another thread would not see it).
So whatever a task logs, by whatever library, has its job's id, task, queue, attempt, worker and trace id.

Rules: one event is one line of JSON; control characters are escaped, so that no argument can forge a line or drive a
terminal; arguments and results are never logged by taskweave itself.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from taskweave.core.ids import JobId
from taskweave.core.values import frozen

logger: Final = logging.getLogger("taskweave")

FIELD_CHARS_MAX: Final = 8 << 10  # of one extra field or exception text; a log line is not a dump

_UNPRINTABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_STANDARD: Final = frozenset(
    vars(logging.makeLogRecord({})).keys()
    | {"message", "asctime", "taskName", "taskweave_job", "job_id", "task", "queue", "attempt", "worker", "trace_id"}
)


@frozen
class JobFields:
    """What every record says about the attempt that it was made in."""

    job_id: JobId
    task: str
    queue: str
    attempt: int
    worker: str | None = None
    trace_id: str | None = None


current: ContextVar[JobFields | None] = ContextVar("taskweave_job", default=None)

_NAMES: Final = ("job_id", "task", "queue", "attempt", "worker", "trace_id")


def escaped(text: str) -> str:
    """Return the text with every control, direction and surrogate character as \\uXXXX: one line, safe to show."""
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class JobFilter(logging.Filter):
    """Lets every record pass, with the job's fields set, for format strings such as %(job_id)s.

    Add it to a handler, not to a logger: a logger's filters do not see the records of its children.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        job = _job_of(record)
        record.taskweave_job = job
        for name in _NAMES:
            if not hasattr(record, name):
                setattr(record, name, getattr(job, name, None))
        return True


def _job_of(record: logging.LogRecord) -> JobFields | None:
    job = getattr(record, "taskweave_job", None)
    return job if isinstance(job, JobFields) else current.get()


def shortened(text: str) -> str:
    return text if len(text) <= FIELD_CHARS_MAX else f"{text[:FIELD_CHARS_MAX]}…"


def _exception_text(formatter: logging.Formatter, record: logging.LogRecord) -> str | None:
    if record.exc_info and record.exc_info[0] is not None:
        return shortened(formatter.formatException(record.exc_info))
    return shortened(record.exc_text) if record.exc_text else None


class JsonFormatter(logging.Formatter):
    """Writes one JSON object on one line: time, level, logger, message, the job's fields, extras, exception."""

    def format(self, record: logging.LogRecord) -> str:
        instant = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds")
        line: dict[str, Any] = {
            "time": instant.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        job = _job_of(record)
        for name in _NAMES:
            value = getattr(record, name, None) if job is None else getattr(job, name)
            if job is not None or value is not None:
                line[name] = value
        line |= {name: value for name, value in vars(record).items() if name not in _STANDARD and name not in line}
        if text := _exception_text(self, record):
            line["exception"] = text
        text = json.dumps(line, ensure_ascii=False, default=_as_text)
        return escaped(text)


def _as_text(value: object) -> str:
    try:
        return shortened(str(value))
    except Exception as error:  # noqa: BLE001 - somebody's __str__: its failure is what there is to log
        return f"<{type(value).__name__}: __str__ raised {type(error).__name__}>"


class ConsoleFormatter(logging.Formatter):
    """Writes one readable line, with the job behind the message; an exception follows, indented."""

    def format(self, record: logging.LogRecord) -> str:
        clock = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        line = f"{clock}.{int(record.msecs):03d} {record.levelname:<7} {escaped(record.getMessage())}"
        job = _job_of(record)
        if job is not None:
            line += f"  [{job.task} {job.job_id} attempt {job.attempt}]"
        if text := _exception_text(self, record):
            line += "".join(f"\n    {escaped(part)}" for part in text.splitlines())
        return line


def configure_logging(*, json: bool = False, level: int | str = "INFO", stream: TextIO | None = None) -> None:
    """Sends every log record of the program to `stream` (stderr) once, with the job's fields.

    `json` chooses between one JSON object and one readable line for each record. A second call replaces the
    handler of the first; handlers that others installed stay.
    """
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if isinstance(handler, _OwnHandler):
            root.removeHandler(handler)
    handler = _OwnHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if json else ConsoleFormatter())
    handler.addFilter(JobFilter())
    root.addHandler(handler)
    root.setLevel(level)
    logging.getLogger("aiosqlite").setLevel(logging.WARNING)  # it logs each statement at DEBUG


class _OwnHandler(logging.StreamHandler[TextIO]):
    """The handler that configure_logging installs; the class is its mark."""
