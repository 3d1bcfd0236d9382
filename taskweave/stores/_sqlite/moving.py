"""Jobs leave a store as they are, and enter another as they were (`core.moving` says what that means).

A restored job is inserted like a new one and then saved like one that took a step: every derived column is written by
the same two statements as everywhere else.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

from taskweave.core.ids import JobId
from taskweave.core.job import Job
from taskweave.core.life import holds_key
from taskweave.core.moving import PAGE_MAX, check_jobs, page, parked, size
from taskweave.core.verbs import Change, Changed, Export, Exported, Restore
from taskweave.stores._sqlite.enqueue import make_room
from taskweave.stores._sqlite.rows import Row, inserted, row_of
from taskweave.stores._sqlite.statements import statement
from taskweave.stores._sqlite.turn import Turn

_EXPORT: Final = statement("export")
_PAUSED: Final = statement("paused")
_INSERT: Final = statement("job_insert")
_ADDED: Final = statement("meta_added")
_FREE_KEY: Final = statement("job_free_key")


def export(turn: Turn, op: Export) -> Exported:
    """Stepped row by row, so that no more is read than the page holds."""
    cursor = turn.ordered(_EXPORT, (op.after,))
    jobs: list[Job] = []

    def sizes() -> Iterator[int]:
        for record in islice(cursor, max(1, min(op.limit, PAGE_MAX))):
            jobs.append(row_of(record).job())
            yield size(jobs[-1])

    page(sizes())
    more = cursor.fetchone() is not None
    cursor.close()
    paused = sorted(queue for (queue,) in turn.run(_PAUSED).fetchall())
    return Exported(turn.now, tuple(jobs), jobs[-1].seq if more else None, tuple(paused), turn.aging_us)


def restore(turn: Turn, op: Restore) -> tuple[Changed, ...]:
    """One answer for each job. Raises InvalidInput or StoreFull; then nothing was stored."""
    check_jobs(op.jobs, turn.settings.payload_bytes_max)
    plan = _Plan(turn, turn.rows_by_id([job.id for job in op.jobs]))
    answers = tuple([plan.take(parked(job)) for job in op.jobs])
    make_room(turn, len(plan.fresh))
    for job in plan.fresh:
        _store(turn, job)
    turn.run(_ADDED, (turn.next_seq, len(plan.fresh)))
    turn.jobs += len(plan.fresh)
    return answers


def _store(turn: Turn, job: Job) -> None:
    row = Row(job.spec, turn.next_seq, job.created_at, job.due_at, job.expires_at, job.life)
    if job.spec.unique is not None and holds_key(job, turn.now):
        row.key = job.spec.unique.key
        turn.run(_FREE_KEY, (row.key,))  # a lapsed window is taken over
    turn.run(_INSERT, inserted(row, turn.aging_us))
    turn.save(row)
    turn.next_seq += 1


class _Plan:
    """What a batch would do, written nowhere yet."""

    def __init__(self, turn: Turn, known: dict[JobId, Row]) -> None:
        self.turn = turn
        self.known = known
        self.fresh: list[Job] = []
        self.taken: dict[str, JobId] = {}  # unique keys that this batch takes

    def take(self, job: Job) -> Changed:
        row = self.known.get(job.id)
        if row is not None:
            return Changed(job.id, Change.EXISTING, row.life.state)
        unique = job.spec.unique
        if unique is not None and holds_key(job, self.turn.now):
            holder = self._holder(unique.key)
            if holder is not None:
                return Changed(job.id, Change.KEY_TAKEN, None, holder)
            self.taken[unique.key] = job.id
        self.fresh.append(job)
        return Changed(job.id, Change.DONE, job.state)

    def _holder(self, key: str) -> JobId | None:
        row = self.turn.holder(key)
        return self.taken.get(key) if row is None else row.spec.id
