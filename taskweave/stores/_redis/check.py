"""Conservation (invariant I26): each job is in exactly the indexes that its state calls for, and nothing else is.

What should be there is computed from the rows by the functions of the core; what is there is asked for some rows, or
some entries, at a time. Each answer is one instant, so a store may be checked while workers use it. It reads
everything, so it takes as long as the store is large.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from typing import Any, Final

from taskweave.core.job import TERMINAL, UNSTARTED, End, Job, State
from taskweave.core.life import fragile, holds_key, prune_at
from taskweave.stores._redis.rows import NUMBER, STATES, job_of, raw, text_of
from taskweave.stores._redis.verbs import Dataset

PROBLEMS_MAX: Final = 100
ROWS_AT_ONCE: Final = 200
Entries = dict[bytes, int]
_UNREADABLE: Final = (ValueError, TypeError, KeyError, IndexError)

_ORDERS: Final = (b"s:", b"a:", b"q:", b"f:")
_WHOLE_ORDERS: Final = (b"all", b"leases", b"e", b"prune")


async def problems(dataset: Dataset) -> list[str]:
    """Everything that is wrong, at most PROBLEMS_MAX of it, each as a sentence; empty for a store that is whole."""
    found: list[str] = []
    for part in (_totals, _rows, _strays):
        async for problem in part(dataset):
            found.append(problem)
            if len(found) == PROBLEMS_MAX:
                return found
    return found


async def _totals(dataset: Dataset) -> AsyncGenerator[str]:
    by_state, jobs, _ = await dataset.evaluate("check_totals", [])
    for state, (counted, there) in zip(STATES, by_state, strict=True):
        if counted != there:
            yield f"{counted} jobs are counted as {state}, {there} are in its index"
    counted = sum(number for number, _ in by_state)
    if counted != jobs:
        yield f"{counted} jobs are counted, {jobs} are listed"


# --- rows ---------------------------------------------------------------------------------------------------------


async def _rows(dataset: Dataset) -> AsyncGenerator[str]:
    after = 0
    while True:
        tags, rows = await dataset.evaluate("check_rows", [after, ROWS_AT_ONCE])
        for tag, row in zip(tags, rows, strict=True):
            if row is None:
                yield f"job {text_of(tag[14:])} is listed, but its row is gone; was it evicted?"
                continue
            for lie in _row_lies(*row):
                yield lie
        if len(tags) < ROWS_AT_ONCE:
            return
        after = int(tags[-1][:14])


def _row_lies(whole: list[Any], flat: list[bytes], holder: bytes | None) -> Iterator[str]:
    try:
        job = job_of(whole)
    except _UNREADABLE as error:
        yield f"job {text_of(whole[0])} cannot be read: {type(error).__name__}: {error}"
        return
    name = f"job {job.id} ({job.state})"
    marks = [mark for mark in (b"claim", b"cancel") if mark in flat]
    flat = [value for value in flat if value not in marks]
    entries = {key: int(score) for key, score in zip(flat[::2], flat[1::2], strict=True)}
    yield from (f"{name}: {lie}" for lie in _entry_lies(job, entries))
    hold = job.life.hold
    if (hold is not None) != (b"claim" in marks):
        yield f"{name}: it is not listed under its claim, or is so without one"
    if (hold is not None and hold.cancel is not None) != (b"cancel" in marks):
        yield f"{name}: the mark of a cancel request is wrong"
    if (job.life.end is not None) != (job.state in TERMINAL):
        yield f"{name}: an end belongs to finished jobs, and to each of them"
    timeless = job.spec.unique is not None and job.spec.unique.within_us is None
    if timeless and holds_key(job, 0) != (holder == raw(job.id)):
        yield f"{name}: it holds its unique key, and should not, or the other way round"


def _entry_lies(job: Job, entries: Entries) -> Iterator[str]:
    expected = entries_of(job)
    aside = b"a:" + raw(job.spec.queue)
    if job.state is State.READY and job.expires_at is not None and aside in entries:
        expected = {aside if key.startswith(b"q:") else key: at for key, at in expected.items()}
    if entries != expected:
        yield f"it has the entries {_shown(entries)}, and should have {_shown(expected)}"


def entries_of(job: Job) -> Entries:
    """The index entries that a job should have, by the rules of the core: key without its prefix, and score."""
    life, queue = job.life, raw(job.spec.queue)
    entries: Entries = {}
    if job.expires_at is not None and life.state in UNSTARTED:
        entries[b"e"] = job.expires_at
    if life.state is State.SCHEDULED:
        entries[b"s:" + queue] = life.run_at
    elif life.state is State.READY:
        is_fragile, priority = fragile(job.spec, life.lost_count), job.spec.priority
        lane = b"q:%d:%b:%d:%d:%b" % (len(queue), queue, is_fragile, priority, raw(job.spec.task))
        entries[lane] = life.run_at
    elif life.hold is not None:
        entries[b"leases"] = life.hold.lease_until
    elif life.end is not None:
        entries |= _finished(job, life.end)
    return entries


def _finished(job: Job, end: End) -> Entries:
    spec, state = job.spec, job.life.state
    windowed = spec.unique is not None and spec.unique.within_us is not None
    keep = spec.retention_failed_us if state in (State.FAILED, State.LOST) else spec.retention_us
    retention = b"w" if windowed else b"%d" % keep
    ttl = b"-" if end.result is None else b"%d" % spec.result_ttl_us
    entries = {b"f:%d:%b:%b" % (NUMBER[state], retention, ttl): end.finished_at}
    if windowed:
        entries[b"prune"] = prune_at(job) or 0
    return entries


def _shown(entries: Entries) -> str:
    return ", ".join(sorted(f"{text_of(key)} at {at}" for key, at in entries.items())) or "none"


# --- entries that no row knows of ---------------------------------------------------------------------------------


async def _strays(dataset: Dataset) -> AsyncGenerator[str]:
    cursor: Any = 0
    while cursor != b"0":
        cursor, typed, unlisted = await dataset.evaluate("check_keys", [cursor])
        for id in unlisted:
            yield f"job {text_of(id)} has a row, but is not listed"
        prefix = len(dataset.prefix)
        for key, kind in zip(typed[::2], typed[1::2], strict=True):
            async for problem in _strays_of(dataset, key, key[prefix:], kind):
                yield problem


async def _strays_of(dataset: Dataset, key: bytes, name: bytes, kind: bytes) -> AsyncGenerator[str]:
    is_order = name.startswith(_ORDERS) or name in _WHOLE_ORDERS
    if not is_order and not name.startswith((b"c:", b"x:")):
        return
    if kind != (b"zset" if is_order else b"set"):
        yield f"{text_of(name)} is of type {text_of(kind)}; somebody else has written there"
        return
    cursor: Any = 0
    while cursor != b"0":
        cursor, entries = await dataset.evaluate("check_index", [key, cursor])
        for member, row in entries:
            if not _belongs(row, name):
                yield f"{text_of(name)} has an entry {text_of(member)} that belongs to no job"


def _belongs(row: list[Any] | None, name: bytes) -> bool:
    if row is None:
        return False
    try:
        job = job_of(row)
    except _UNREADABLE:
        return True  # said of the row already
    hold = job.life.hold
    if name.startswith(b"c:"):
        return hold is not None and raw(hold.claim_id) == name[2:]
    if name.startswith(b"x:"):
        return hold is not None and raw(hold.member) == name[2:]
    if name.startswith(b"a:"):
        return job.state is State.READY and raw(job.spec.queue) == name[2:]
    return name == b"all" or name in entries_of(job)
