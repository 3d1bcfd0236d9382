"""Jobs leave a store as they are, and enter another as they were (`core.moving` says what that means).

An export asks for the sizes of a page first, so that no more is read than the page holds. A restored job is inserted
like a new one and then saved like one that took a step: every derived column is written by the same two statements as
everywhere else. Two that restore one job at once are told apart by the unique index of the ids, like two producers.
"""

from __future__ import annotations

from collections.abc import Sequence

from taskweave.core.ids import JobId
from taskweave.core.job import Job
from taskweave.core.life import holds_key
from taskweave.core.moving import PAGE_MAX, check_jobs, page, parked
from taskweave.core.verbs import Change, Changed, Export, Exported, Restore
from taskweave.stores._server.rows import Row, inserted, row_of
from taskweave.stores._server.turn import Turn


async def export(turn: Turn, op: Export) -> Exported:
    limit = max(1, min(op.limit, PAGE_MAX))
    sizes = await turn.link.fetch("export_sizes", op.after, limit + 1)
    count = page(int(bytes_) for _, bytes_ in sizes[:limit])
    jobs: list[Job] = []
    if count:
        found = await turn.link.fetch("export", op.after, sizes[count - 1][0])
        jobs = [row_of(record).job() for record in found]
    paused = sorted(queue for (queue,) in await turn.link.fetch("paused"))
    more = jobs[-1].seq if len(sizes) > count else None
    return Exported(turn.now, tuple(jobs), more, tuple(paused), turn.aging_us)


async def restore(turn: Turn, op: Restore) -> tuple[Changed, ...]:
    """One answer for each job. Raises InvalidInput; then nothing was stored."""
    check_jobs(op.jobs, turn.payload_bytes_max)
    plan = _Plan(turn, await turn.rows_by_id([job.id for job in op.jobs]))
    answers = tuple([await plan.take(parked(job)) for job in op.jobs])
    await _store(turn, plan.fresh)
    return answers


async def _store(turn: Turn, jobs: Sequence[Job]) -> None:
    """Insert them in this order, and then all that they lived through, by the seqs that they were given."""
    if not jobs:
        return
    rows = [Row(job.spec, 0, job.created_at, job.due_at, job.expires_at, job.life) for job in jobs]
    for row in rows:
        if row.spec.unique is not None and holds_key(row, turn.now):
            row.key = row.spec.unique.key
            await turn.take_over(row.key)
    await turn.link.many("job_insert", [inserted(row, turn.aging_us) for row in rows])
    stored = await turn.rows_by_id([row.spec.id for row in rows])
    for row in rows:
        row.seq = stored[row.spec.id].seq
    await turn.save(rows)


class _Plan:
    """What a batch would do, written nowhere yet."""

    def __init__(self, turn: Turn, known: dict[JobId, Row]) -> None:
        self.turn = turn
        self.known = known
        self.fresh: list[Job] = []
        self.taken: dict[str, JobId] = {}  # unique keys that this batch takes

    async def take(self, job: Job) -> Changed:
        row = self.known.get(job.id)
        if row is not None:
            return Changed(job.id, Change.EXISTING, row.life.state)
        unique = job.spec.unique
        if unique is not None and holds_key(job, self.turn.now):
            holder = await self._holder(unique.key)
            if holder is not None:
                return Changed(job.id, Change.KEY_TAKEN, None, holder)
            self.taken[unique.key] = job.id
        self.fresh.append(job)
        return Changed(job.id, Change.DONE, job.state)

    async def _holder(self, key: str) -> JobId | None:
        row = await self.turn.holder(key)
        return self.taken.get(key) if row is None else row.spec.id
