"""Every verb as an async function of a turn: the tables that the stores of SQL servers share.

A store begins a transaction, makes a Turn of it (`turn.begin`), calls the verb, and commits. What it does faster in
its own way (a function on the server for the hot verbs) must mean the same.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

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
from taskweave.stores._server.enqueue import enqueue
from taskweave.stores._server.exchange import exchange, renew
from taskweave.stores._server.maintain import maintain
from taskweave.stores._server.moving import export, restore
from taskweave.stores._server.operate import cancel, delete, pause, prune, purge, resume, retry, update
from taskweave.stores._server.read import count, dump, find, load
from taskweave.stores._server.turn import Turn

Verb = Callable[[Turn, Any], Awaitable[Any]]

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
