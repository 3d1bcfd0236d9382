"""Every verb of the store as one plain function of a connection: `apply(connection, op, at)`.

It is synchronous and knows no thread, so a simulator calls it inline. A verb is one transaction: it happens completely
or, when it raises, not at all.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

from taskweave.core.ids import Micros
from taskweave.core.verbs import (
    CancelJobs,
    Count,
    DeleteJobs,
    Enqueue,
    Exchange,
    Export,
    Find,
    Load,
    Maintain,
    Op,
    PauseQueue,
    Prune,
    PurgeQueue,
    Renew,
    Restore,
    ResumeQueue,
    RetryJobs,
    TakeDump,
    UpdateJob,
)
from taskweave.stores._sqlite.connection import StoreConnection, patiently
from taskweave.stores._sqlite.enqueue import enqueue
from taskweave.stores._sqlite.errors import translated
from taskweave.stores._sqlite.exchange import exchange, renew
from taskweave.stores._sqlite.maintain import maintain
from taskweave.stores._sqlite.moving import export, restore
from taskweave.stores._sqlite.operate import cancel, delete, pause, prune, purge, resume, retry, update
from taskweave.stores._sqlite.read import count, dump, find, load
from taskweave.stores._sqlite.turn import Turn

A = TypeVar("A")
Verb = Callable[[Turn, Any], Any]

WRITES: Final[dict[type[Op[Any]], Verb]] = {
    Enqueue: enqueue,
    Exchange: exchange,
    Renew: renew,
    Maintain: maintain,
    CancelJobs: cancel,
    RetryJobs: retry,
    DeleteJobs: delete,
    UpdateJob: update,
    PauseQueue: pause,
    ResumeQueue: resume,
    PurgeQueue: purge,
    Prune: prune,
    Restore: restore,
}

READS: Final[dict[type[Op[Any]], Verb]] = {Load: load, Find: find, Count: count, Export: export, TakeDump: dump}


def apply(connection: StoreConnection, op: Op[A], at: Micros | None = None) -> A:
    """Return the answer to this op, at the store's time or at the instant given. Raises StoreError, InvalidInput."""
    write = WRITES.get(type(op))
    with translated(connection.settings.url):
        if write is not None:
            return cast(A, _transaction(connection, "BEGIN IMMEDIATE", write, op, at))
        return cast(A, patiently(lambda: _transaction(connection, "BEGIN", READS[type(op)], op, at)))


def _transaction(connection: StoreConnection, begin: str, verb: Verb, op: Any, at: Micros | None) -> Any:
    try:
        sqlite3.Connection.execute(connection, begin)
    except sqlite3.OperationalError:
        patiently(lambda: sqlite3.Connection.execute(connection, begin))  # says why, if it is not a lock
    try:
        answer = verb(Turn(connection, at, connection.settings), op)
        sqlite3.Connection.execute(connection, "COMMIT")
    except BaseException:
        if connection.in_transaction:
            sqlite3.Connection.execute(connection, "ROLLBACK")
        raise
    return answer
