"""The verbs of operators and of maintenance as arguments of their scripts, and the answers back."""

from __future__ import annotations

from typing import Any, Final

from taskweave.core.bounds import check_change, check_name
from taskweave.core.ids import JobId
from taskweave.core.job import State
from taskweave.core.verbs import (
    CancelJobs,
    Change,
    Changed,
    DeleteJobs,
    Maintain,
    Maintained,
    PauseQueue,
    Prune,
    PurgeQueue,
    ResumeQueue,
    RetryJobs,
    UpdateJob,
)
from taskweave.stores._redis.rows import NUMBER, STATES, raw, text_of

Arguments = list[Any]

_FIRST_FINISHED: Final = NUMBER[State.SUCCEEDED]


def maintain_arguments(op: Maintain) -> Arguments:
    return [op.lease_us, op.limit]


def maintained(op: Maintain, answer: Any) -> Maintained:
    now, promoted, reaped, expired, dropped, pruned, more, due = answer
    next_due = None if due is None else int(due)
    return Maintained(int(now), promoted, reaped, expired, dropped, pruned, 0, bool(more), next_due)


def cancel_arguments(op: CancelJobs) -> Arguments:
    return [raw(op.reason), len(op.ids), *map(raw, op.ids)]


def retry_arguments(op: RetryJobs) -> Arguments:
    return [raw(op.by), len(op.ids), *map(raw, op.ids)]


def delete_arguments(op: DeleteJobs) -> Arguments:
    return [len(op.ids), *map(raw, op.ids)]


def changed(op: CancelJobs | RetryJobs | DeleteJobs, answer: Any) -> tuple[Changed, ...]:
    return tuple([changed_one(id, said) for id, said in zip(op.ids, answer, strict=True)])


def update_arguments(op: UpdateJob) -> Arguments:
    """Raises InvalidValue for a priority or delay out of bounds."""
    check_change(op.priority, op.delay_us)
    return [raw(op.id), "" if op.priority is None else op.priority, "" if op.delay_us is None else op.delay_us]


def updated(op: UpdateJob, answer: Any) -> Changed:
    return changed_one(op.id, answer[0])


def changed_one(id: JobId, said: bytes) -> Changed:
    """From 'done 5', 'unknown', 'key_taken 4 holder': the change, the state after it, who holds the key."""
    change, *after = text_of(said).split(" ", 2)
    state = STATES[int(after[0])] if after and after[0] != "-" else None
    return Changed(id, Change(change), state, after[1] if len(after) > 1 else None)


def pause_arguments(op: PauseQueue) -> Arguments:
    check_name("queue", op.queue)
    return [op.queue]


def resume_arguments(op: ResumeQueue) -> Arguments:
    return [raw(op.queue)]


def purge_arguments(op: PurgeQueue) -> Arguments:
    return [raw(op.queue), op.limit]


def prune_arguments(op: Prune) -> Arguments:
    states = [number for state in dict.fromkeys(op.states) if (number := NUMBER[state]) >= _FIRST_FINISHED]
    return [op.older_us, op.limit, len(states), *states]
