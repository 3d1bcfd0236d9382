"""What travels between a worker and its children besides calls and ends: specs of spawned jobs, and log records."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any, Final

from attrs import asdict

from taskweave._runtime.failures import clean
from taskweave._runtime.frames import Head
from taskweave.core.job import Spec
from taskweave.core.unique import UniqueKey

LOG_CHARS_MAX: Final = 8 << 10
EXTRAS_MAX: Final = 32

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskweave_job"}


def spec_to_head(spec: Spec) -> Head:
    """The spec as JSON data; its payload travels as the frame's body."""
    head = asdict(spec)
    del head["payload"]
    return head


def spec_from(head: Head, payload: bytes) -> Spec:
    unique = None if head["unique"] is None else UniqueKey(**head["unique"])
    tags = tuple((key, value) for key, value in head["tags"])
    fields: Head = {**head, "payload": payload, "unique": unique, "tags": tags}
    return Spec(**fields)


class LogToWorker(logging.Handler):
    """Sends a child's log records to its worker, whose handlers decide what becomes of them."""

    def __init__(self, send: Callable[[Head], None], closed: Callable[[], bool]) -> None:
        super().__init__()
        self._send, self._closed = send, closed

    @classmethod
    def install(cls, send: Callable[[Head], None], closed: Callable[[], bool], level: int) -> None:
        """Make it the root's only handler, before user code runs: `basicConfig` then leaves things as they are."""
        root = logging.getLogger()
        root.addHandler(cls(send, closed))
        root.setLevel(level)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if self._closed():  # a process that the task has forked
                print(self.format(record), file=sys.stderr)
            else:
                self._send(log_to_head(record))
        except Exception:  # noqa: BLE001 - as every logging handler: bad arguments or a lost worker are reported, not raised
            self.handleError(record)


def log_to_head(record: logging.LogRecord) -> Head:
    text = record.exc_text
    if record.exc_info and record.exc_info[0] is not None:
        text = logging.Formatter().formatException(record.exc_info)
    extras = {key: value for key, value in vars(record).items() if key not in _STANDARD}
    shown = {key: _plain(extras[key]) for key in sorted(extras)[:EXTRAS_MAX]}
    message = clean(record.getMessage())[:LOG_CHARS_MAX]
    head: Head = {"kind": "log", "name": record.name, "level": record.levelno, "message": message}
    return head | {
        "exception": clean(text)[-LOG_CHARS_MAX:] if text else None,
        "created": record.created,
        "where": [record.pathname, record.lineno, record.funcName],
        "extras": shown,
    }


def _plain(value: object) -> object:
    return value if value is None or isinstance(value, bool | int | float) else clean(str(value))[:200]


def log_from(head: Head) -> None:
    """Give a child's record to this process's handlers, as if it had been made here."""
    logger = logging.getLogger(str(head["name"]))
    if not logger.isEnabledFor(head["level"]):
        return
    path, line, function = head["where"]
    extras: dict[str, Any] = head["extras"]
    record = logger.makeRecord(head["name"], head["level"], path, line, head["message"], (), None, function, extras)
    record.created, record.exc_text = head["created"], head["exception"]
    record.msecs = (record.created % 1) * 1000
    logger.handle(record)
