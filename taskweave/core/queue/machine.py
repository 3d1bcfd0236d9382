"""The queue machine: the whole meaning of a store, as one mutable object that never awaits.

`apply(op, now)` is what each verb of core.verbs means. The memory store is this machine behind a lock; every other
store must be observationally equal to it. The steps of a job are decided in core.life; here are only rows, indexes
and the order in which things happen.

Rules
  time      `now` is microseconds of store time, and counts as the floor where it lies below it; the floor is the
            instant of the last maintenance
  atomic    an op that raises has changed nothing; one that returns has happened completely
  bounded   no op reads more rows than it changes or answers with, the reads (find, export, dump) excepted
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

from taskweave.core.bounds import PAYLOAD_BYTES_MAX
from taskweave.core.ids import Micros
from taskweave.core.queue.check import check
from taskweave.core.queue.enqueue import enqueue
from taskweave.core.queue.exchange import exchange, renew
from taskweave.core.queue.maintain import maintain
from taskweave.core.queue.moving import export, restore
from taskweave.core.queue.operate import cancel, delete, pause, prune, purge, resume, retry, update
from taskweave.core.queue.read import count, dump, find, load
from taskweave.core.queue.table import Table
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

A = TypeVar("A")

VERBS: Final[dict[type[Op[Any]], Callable[[Table, Any, Micros], Any]]] = {
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
    Load: load,
    Find: find,
    Count: count,
    Export: export,
    Restore: restore,
    TakeDump: dump,
}


class Queue:
    """Every op happens completely or not at all, and the same ops at the same instants give the same answers.

    `aging_us` is what one step of priority is worth in waiting, None for strict priority. At most `jobs_max` jobs are
    held, finished ones included; the oldest finished ones make room. Payloads have at most `payload_bytes_max` bytes.
    Not thread-safe: one caller at a time.
    """

    def __init__(
        self,
        aging_us: Micros | None = None,
        jobs_max: int = 1_000_000,
        payload_bytes_max: int = PAYLOAD_BYTES_MAX,
    ) -> None:
        self._table = Table(aging_us, jobs_max, payload_bytes_max)

    def __len__(self) -> int:
        return len(self._table.rows)

    def apply(self, op: Op[A], now: Micros) -> A:
        """Return what the op answers at this instant. Raises InvalidInput and StoreFull; then nothing has changed."""
        table = self._table
        return cast(A, VERBS[type(op)](table, op, now if now > table.floor else table.floor))

    def check(self) -> None:
        """Compare every index with the rows, by a scan (invariant I26). Raises AssertionError naming the first lie."""
        check(self._table)
