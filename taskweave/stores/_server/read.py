"""Reads: nothing here changes a row, and each sees one snapshot (the store begins a read-only one).

`find` asks for the jobs from the newest in pages, filtered by the server but for tags, and stops when its page is full.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from attrs import evolve

from taskweave.core.ids import Micros
from taskweave.core.job import Job, State
from taskweave.core.life import holds_key
from taskweave.core.queue.read import PAGE_MAX
from taskweave.core.verbs import Count, Dump, Find, Found, Load, QueueStat, Stats, TakeDump
from taskweave.stores._server.rows import NUMBER, STATES, Record, row_of
from taskweave.stores._server.turn import Turn

_NO_END: Final = 1 << 62  # more than any seq


async def load(turn: Turn, op: Load) -> tuple[Job | None, ...]:
    if not op.ids:
        return ()
    return loaded(op, await turn.link.fetch("load", list(dict.fromkeys(op.ids))))


def loaded(op: Load, records: Sequence[Record]) -> tuple[Job | None, ...]:
    """The answer, from the records of the statement load."""
    jobs = {row.spec.id: row.job() for row in map(row_of, records)}
    return tuple([jobs.get(id) for id in op.ids])


async def find(turn: Turn, op: Find) -> Found:
    limit = max(1, min(op.limit, PAGE_MAX))
    states = [NUMBER[state] for state in dict.fromkeys(op.states)] or list(NUMBER.values())
    tags = frozenset(op.tags)
    after = _NO_END if op.after is None else op.after
    page: list[Job] = []
    while True:
        found = await turn.link.fetch("find", after, states, op.queue, op.task, PAGE_MAX if tags else limit + 1)
        for job in [row_of(record).job() for record in found]:
            if tags and not tags.issubset(job.spec.tags):
                continue
            if len(page) == limit:
                return Found(tuple(page), page[-1].seq)
            page.append(job)
        if len(found) < (PAGE_MAX if tags else limit + 1):
            return Found(tuple(page))
        after = found[-1][0]


async def count(turn: Turn, op: Count) -> Stats:
    counts: dict[str, dict[State, int]] = {}
    oldest: dict[str, Micros] = {}
    for queue, number, jobs, run_at in await turn.link.fetch("count"):
        state: State = STATES[int(number)]
        counts.setdefault(queue, {})[state] = jobs
        if state is State.READY:
            oldest[queue] = run_at
    paused = {queue for (queue,) in await turn.link.fetch("paused")}
    stats: list[QueueStat] = []
    for queue in sorted({*counts, *paused}):
        of_queue = counts.get(queue, {})
        waited = max(0, turn.now - oldest[queue]) if queue in oldest else None
        in_order = tuple((state, of_queue[state]) for state in State if state in of_queue)
        stats.append(QueueStat(queue, queue in paused, in_order, waited))
    return Stats(turn.now, tuple(stats))


async def dump(turn: Turn, op: TakeDump) -> Dump:
    rows = [row_of(record) for record in await turn.link.fetch("dump")]
    jobs = tuple([_anonymous(row.job()) for row in rows])
    keys = sorted((row.key, row.spec.id) for row in rows if row.key is not None and holds_key(row, turn.now))
    paused = sorted(queue for (queue,) in await turn.link.fetch("paused"))
    return Dump(jobs, tuple(paused), tuple(keys), turn.floor)


def _anonymous(job: Job) -> Job:
    if job.life.hold is None:
        return job
    return evolve(job, life=evolve(job.life, hold=evolve(job.life.hold, member="")))
