"""Every verb of the store as one function of a dataset: `await apply(dataset, op, at)`, on the driver's loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

from attrs import define

from taskweave.core.ids import Micros
from taskweave.core.job import Job
from taskweave.core.queue.read import PAGE_MAX
from taskweave.core.verbs import (
    CancelJobs,
    Count,
    DeleteJobs,
    Enqueue,
    Exchange,
    Export,
    Find,
    Found,
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
from taskweave.stores._redis import moving, operate, read, write
from taskweave.stores._redis.link import Link
from taskweave.stores._redis.scripts import SCRIPTS

A = TypeVar("A")
Arguments = list[Any]


@define
class Dataset:
    """Where the jobs are, and the mark by which every script knows that they still are."""

    link: Link
    payload_bytes_max: int
    made: bytes = b""

    @property
    def prefix(self) -> str:
        return self.link.address.prefix

    async def evaluate(self, name: str, arguments: Arguments, at: Micros | None = None) -> Any:
        prefix = self.prefix
        instant = "" if at is None else at
        return await self.link.evaluate(SCRIPTS[name], f"{prefix}meta", prefix, self.made, instant, *arguments)


Arguing = Callable[[Any, int], Arguments]
Answering = Callable[[Any, Any], Any]

WRITES: Final[dict[type[Op[Any]], tuple[Arguing, Answering]]] = {
    Enqueue: (write.enqueue_arguments, write.enqueued),
    Exchange: (write.exchange_arguments, write.exchanged),
    Renew: (lambda op, _: write.renew_arguments(op), write.renewed),
    Maintain: (lambda op, _: operate.maintain_arguments(op), operate.maintained),
    CancelJobs: (lambda op, _: operate.cancel_arguments(op), operate.changed),
    RetryJobs: (lambda op, _: operate.retry_arguments(op), operate.changed),
    DeleteJobs: (lambda op, _: operate.delete_arguments(op), operate.changed),
    UpdateJob: (lambda op, _: operate.update_arguments(op), operate.updated),
    PauseQueue: (lambda op, _: operate.pause_arguments(op), lambda _, answer: bool(answer)),
    ResumeQueue: (lambda op, _: operate.resume_arguments(op), lambda _, answer: bool(answer)),
    PurgeQueue: (lambda op, _: operate.purge_arguments(op), lambda _, answer: answer),
    Restore: (moving.restore_arguments, moving.restored),
    Prune: (lambda op, _: operate.prune_arguments(op), lambda _, answer: answer),
}

READS: Final[dict[type[Op[Any]], tuple[Arguing, Answering]]] = {
    Load: (lambda op, _: read.load_arguments(op), lambda _, answer: read.loaded(answer)),
    Export: (lambda op, _: moving.export_arguments(op), lambda _, answer: moving.exported(answer)),
    Count: (lambda op, _: [], lambda _, answer: read.counted(answer)),
    TakeDump: (lambda op, _: [], lambda _, answer: read.dumped(answer)),
    Find: (lambda op, _: [], lambda _, answer: answer),  # in steps: see _find
}
_VERBS: Final = WRITES | READS


async def apply(dataset: Dataset, op: Op[A], at: Micros | None = None) -> A:
    """Return the answer to this op, at the store's time or at the instant given. Raises StoreError, InvalidInput."""
    if type(op) is Find:
        return cast(A, await _find(dataset, op, at))
    arguing, answering = _VERBS[type(op)]
    arguments = arguing(op, dataset.payload_bytes_max)
    return cast(A, answering(op, await dataset.evaluate(op.name, arguments, at)))


async def _find(dataset: Dataset, op: Find, at: Micros | None) -> Found:
    """A page, put together from steps that each look at a bounded number of rows, so that workers get between them."""
    limit = max(1, min(op.limit, PAGE_MAX))
    page: list[Job] = []
    after = op.after
    while True:
        answer = await dataset.evaluate("find", read.find_arguments(op, after, limit + 1 - len(page)), at)
        jobs, after = read.found(answer)
        page += jobs
        if len(page) > limit:
            return Found(tuple(page[:limit]), page[limit - 1].seq)
        if after is None:
            return Found(tuple(page))
