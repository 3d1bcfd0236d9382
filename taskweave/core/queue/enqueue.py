"""Enqueue: all or nothing, once for each id, at most one live job for each unique key.

A batch is planned before anything is written. In a batch the first of two equal unique keys has it; the second is
`existing`, or the conflict that it asked for. Finished jobs make room for new ones when the table is full, the
oldest first, because a bounded store cannot promise retention; dead letters, lost jobs and held unique windows are
never evicted, nor is anything that is not finished. Where that is not enough, StoreFull and nothing has changed.
"""

from __future__ import annotations

from taskweave.core.bounds import check_batch
from taskweave.core.ids import JobId, Micros
from taskweave.core.job import Job, Spec, State
from taskweave.core.life import first, holds_key, replaced
from taskweave.core.queue.order import Entry
from taskweave.core.queue.table import Row, Table
from taskweave.core.verbs import Enqueue, Enqueued, How
from taskweave.exceptions import StoreFull, UniqueConflict

_EVICTED_FIRST = (State.SUCCEEDED, State.CANCELLED, State.EXPIRED)


def enqueue(table: Table, op: Enqueue, now: Micros) -> tuple[Enqueued, ...]:
    """One answer for each spec. Raises InvalidInput, UniqueConflict or StoreFull; then nothing was stored."""
    check_batch(op.specs, table.payload_bytes_max)
    plan = _Plan(table, now)
    answers = tuple([plan.take(spec) for spec in op.specs])
    make_room(table, len(plan.fresh), now)
    for row, job in plan.replacements:
        table.edit(row, job, now)
    _add(table, plan.fresh, now)
    return answers


def spawn(table: Table, specs: tuple[Spec, ...], now: Micros) -> None:
    """Add the jobs of a settlement: a taken id or unique key means that the job is there already."""
    for spec in specs:
        taken = spec.unique is not None and table.holder(spec.unique.key, now) is not None
        if spec.id not in table.ids and not taken:
            _add(table, [spec], now)


def _add(table: Table, specs: list[Spec], now: Micros) -> None:
    add = table.add
    for spec in specs:
        life, expires_at = first(spec, now)
        add(spec, life, expires_at, now)


class _Plan:
    """What a batch would do, written nowhere yet."""

    def __init__(self, table: Table, now: Micros) -> None:
        self.table = table
        self.now = now
        self.fresh: list[Spec] = []
        self.replacements: list[tuple[Row, Job]] = []
        self.taken: dict[str, JobId] = {}  # unique keys that this batch takes, with who has them then

    def take(self, spec: Spec) -> Enqueued:
        if spec.id in self.table.ids:
            return Enqueued(spec.id, How.EXISTING)
        if spec.unique is None:
            self.fresh.append(spec)
            return Enqueued(spec.id)
        return self._take_unique(spec, spec.unique.key, spec.unique.on_conflict)

    def _take_unique(self, spec: Spec, key: str, on_conflict: str) -> Enqueued:
        holder = self.taken.get(key)
        row = None
        if holder is None:
            row = self.table.holder(key, self.now)
            if row is None:
                self.fresh.append(spec)
                self.taken[key] = spec.id
                return Enqueued(spec.id)
            holder = row.spec.id
        if on_conflict == "raise":
            raise UniqueConflict(key, holder)
        if on_conflict == "replace" and row is not None:
            job = replaced(row.job(), spec, self.now)
            if job is not None:
                self.replacements.append((row, job))
                self.taken[key] = holder
                return Enqueued(holder, How.REPLACED)
        return Enqueued(holder, How.EXISTING)


def make_room(table: Table, needed: int, now: Micros) -> None:
    """See that `needed` more rows fit, evicting finished ones. Raises StoreFull, and then nothing was evicted."""
    missing = len(table.rows) + needed - table.jobs_max
    if missing <= 0:
        return
    victims: list[Row] = []
    spared: list[tuple[State, Entry]] = []
    for state in _EVICTED_FIRST:
        order = table.finished[state]
        while len(victims) < missing and (entry := order.head()) is not None:
            order.pop()
            row = table.rows[entry[1]]
            spared.append((state, entry))
            if not holds_key(row, now):
                victims.append(row)
    for state, entry in spared:
        table.rows[entry[1]].place = table.finished[state].push(*entry)
    if len(victims) < missing:
        problem = f"it holds {len(table.rows):,} jobs, {needed:,} more would pass the bound of {table.jobs_max:,}"
        raise StoreFull("the memory store", problem)
    for row in victims:
        table.remove(row)
