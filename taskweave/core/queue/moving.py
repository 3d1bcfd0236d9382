"""Jobs leave a store as they are, and enter another as they were (`core.moving` says what that means)."""

from __future__ import annotations

from bisect import bisect_right

from taskweave.core.ids import JobId, Micros
from taskweave.core.job import Job
from taskweave.core.life import holds_key
from taskweave.core.moving import PAGE_MAX, check_jobs, page, parked, size
from taskweave.core.queue.enqueue import make_room
from taskweave.core.queue.table import Row, Table
from taskweave.core.verbs import Change, Changed, Export, Exported, Restore


def export(table: Table, op: Export, now: Micros) -> Exported:
    seqs = list(table.rows)
    start = bisect_right(seqs, op.after)
    limit = max(1, min(op.limit, PAGE_MAX))
    jobs = [table.rows[seq].job() for seq in seqs[start : start + limit]]
    jobs = jobs[: page(map(size, jobs))]
    more = start + len(jobs) < len(seqs)
    return Exported(now, tuple(jobs), jobs[-1].seq if more else None, tuple(sorted(table.paused)), table.aging_us)


def restore(table: Table, op: Restore, now: Micros) -> tuple[Changed, ...]:
    """One answer for each job. Raises InvalidInput or StoreFull; then nothing was stored."""
    check_jobs(op.jobs, table.payload_bytes_max)
    fresh: list[Job] = []
    taken: dict[str, JobId] = {}  # unique keys that this batch takes
    answers = tuple([_plan(table, parked(job), fresh, taken, now) for job in op.jobs])
    make_room(table, len(fresh), now)
    for job in fresh:
        table.restore(job, now)
    return answers


def _plan(table: Table, job: Job, fresh: list[Job], taken: dict[str, JobId], now: Micros) -> Changed:
    """What becomes of one job, written nowhere yet."""
    row = table.ids.get(job.id)
    if row is not None:
        return Changed(job.id, Change.EXISTING, row.life.state)
    unique = job.spec.unique
    if unique is not None and holds_key(job, now):
        holder = _holder(table, unique.key, taken, now)
        if holder is not None:
            return Changed(job.id, Change.KEY_TAKEN, None, holder)
        taken[unique.key] = job.id
    fresh.append(job)
    return Changed(job.id, Change.DONE, job.state)


def _holder(table: Table, key: str, taken: dict[str, JobId], now: Micros) -> JobId | None:
    row: Row | None = table.holder(key, now)
    return taken.get(key) if row is None else row.spec.id
