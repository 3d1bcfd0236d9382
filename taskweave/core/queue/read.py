"""Reads: nothing here changes a row."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Final

from attrs import evolve

from taskweave.core.ids import Micros
from taskweave.core.job import Job, State
from taskweave.core.queue.table import Line, Row, Table
from taskweave.core.verbs import Count, Dump, Find, Found, Load, QueueStat, Stats, TakeDump

PAGE_MAX: Final = 500


def load(table: Table, op: Load, now: Micros) -> tuple[Job | None, ...]:
    return tuple([None if row is None else row.job() for row in map(table.ids.get, op.ids)])


def find(table: Table, op: Find, now: Micros) -> Found:
    """Looks through the states asked for, newest first, until the page is full."""
    limit = max(1, min(op.limit, PAGE_MAX))
    wanted = frozenset(op.states)
    tags = frozenset(op.tags)
    page: list[Job] = []
    for row in _newest_first(table, op):
        spec = row.spec
        if (
            (not wanted or row.life.state in wanted)
            and (op.queue is None or spec.queue == op.queue)
            and (op.task is None or spec.task == op.task)
            and (not tags or tags.issubset(spec.tags))
        ):
            if len(page) == limit:
                return Found(tuple(page), page[-1].seq)
            page.append(row.job())
    return Found(tuple(page))


def _newest_first(table: Table, op: Find) -> Iterator[Row]:
    """Rows older than `after`; only those of the states asked for, where their indexes are short."""
    states = [state for state in dict.fromkeys(op.states) if state is State.RUNNING or state in table.finished]
    orders = [table.leases if state is State.RUNNING else table.finished[state] for state in states]
    if op.states and len(states) == len(set(op.states)) and 4 * sum(map(len, orders)) < len(table.rows):
        seqs = sorted(seq for order in orders for _, seq in order)
    else:
        seqs = list(table.rows)
    end = len(seqs) if op.after is None else bisect_left(seqs, op.after)
    return (table.rows[seqs[index]] for index in range(end - 1, -1, -1))


def count(table: Table, op: Count, now: Micros) -> Stats:
    """Counted as rows change, never by a scan."""
    stats: list[QueueStat] = []
    for queue in sorted({*table.lines, *table.paused}):
        line = table.lines.get(queue)
        counts = () if line is None else tuple((state, line.counts[state]) for state in State if state in line.counts)
        oldest = None if line is None else _oldest_ready(line)
        waited = None if oldest is None else max(0, now - oldest)
        stats.append(QueueStat(queue, queue in table.paused, counts, waited))
    return Stats(now, tuple(stats))


def _oldest_ready(line: Line) -> Micros | None:
    heads = [head[0] for order in line.orders() if (head := order.head()) is not None]
    heads.extend(row.life.run_at for row in line.aside.values())
    return min(heads, default=None)


def dump(table: Table, op: TakeDump, now: Micros) -> Dump:
    jobs = tuple([_anonymous(row.job()) for row in table.rows.values()])
    keys = sorted((key, id) for key, id in table.keys.items() if table.holder(key, now) is not None)
    return Dump(jobs, tuple(sorted(table.paused)), tuple(keys), table.floor)


def _anonymous(job: Job) -> Job:
    if job.life.hold is None:
        return job
    return evolve(job, life=evolve(job.life, hold=evolve(job.life.hold, member="")))
