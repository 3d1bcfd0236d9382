"""Reads: nothing here changes a row, and each sees one snapshot.

`find` walks the jobs from the newest and stops when its page is full; jobs that ended otherwise than by success and
running ones, which are few and what operators look for, have short ways. `count` reads indexes only, never rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge
from typing import Final

from attrs import evolve

from taskweave.core.ids import Micros
from taskweave.core.job import Job, State
from taskweave.core.life import holds_key
from taskweave.core.queue.read import PAGE_MAX
from taskweave.core.verbs import Count, Dump, Find, Found, Load, QueueStat, Stats, TakeDump
from taskweave.stores._sqlite.rows import FAILED, NUMBER, STATES, Record, Row, row_of
from taskweave.stores._sqlite.statements import statement
from taskweave.stores._sqlite.turn import Turn

_FIND: Final = statement("find")
_FIND_ENDED: Final = statement("find_ended")
_FIND_RUNNING: Final = statement("find_running")
_COUNT: Final = {
    State.SCHEDULED: statement("count_scheduled"),
    State.RUNNING: statement("count_running"),
}
_COUNT_READY: Final = (statement("count_ready"), statement("count_aside"))
_COUNT_ENDED: Final = statement("count_ended")
_PAUSED: Final = statement("paused")
_DUMP_JOBS: Final = statement("dump_jobs")
_DUMP_KEYS: Final = statement("dump_keys")

_NO_END: Final = 1 << 62  # more than any seq


def load(turn: Turn, op: Load) -> tuple[Job | None, ...]:
    rows = turn.rows_by_id(op.ids)
    return tuple([None if (row := rows.get(id)) is None else row.job() for id in op.ids])


def find(turn: Turn, op: Find) -> Found:
    limit = max(1, min(op.limit, PAGE_MAX))
    states = frozenset(op.states)
    tags = frozenset(op.tags)
    page: list[Job] = []
    for row in _newest_first(turn, op):
        spec = row.spec
        if (
            (not states or row.life.state in states)
            and (op.queue is None or spec.queue == op.queue)
            and (op.task is None or spec.task == op.task)
            and (not tags or tags.issubset(spec.tags))
        ):
            if len(page) == limit:
                return Found(tuple(page), page[-1].seq)
            page.append(row.job())
    return Found(tuple(page))


def _newest_first(turn: Turn, op: Find) -> Iterator[Row]:
    """Rows older than `after`; only those of the states asked for, where these have an index of their own."""
    after = _NO_END if op.after is None else op.after
    numbers = sorted({NUMBER[state] for state in op.states})
    if not numbers or not all(number >= FAILED or number == NUMBER[State.RUNNING] for number in numbers):
        yield from map(row_of, turn.ordered(_FIND, (after,)))
        return
    ways: list[Iterator[tuple[int, Record | None]]] = []
    for number in numbers:
        if number >= FAILED:
            ways.append((-record[0], record) for record in turn.ordered(_FIND_ENDED, (number, after)))
        else:
            seqs = sorted((seq for (seq,) in turn.run(_FIND_RUNNING).fetchall() if seq < after), reverse=True)
            ways.append((-seq, None) for seq in seqs)
    for minus_seq, record in merge(*ways, key=lambda way: way[0]):
        yield turn.rows_by_seq((-minus_seq,))[-minus_seq] if record is None else row_of(record)


def count(turn: Turn, op: Count) -> Stats:
    counts: dict[str, dict[State, int]] = {}
    oldest: dict[str, Micros] = {}
    for state, sql in _COUNT.items():
        for queue, number in turn.run(sql).fetchall():
            counts.setdefault(queue, {})[state] = number
    for sql in _COUNT_READY:
        for queue, number, run_at in turn.run(sql).fetchall():
            of_queue = counts.setdefault(queue, {})
            of_queue[State.READY] = of_queue.get(State.READY, 0) + number
            oldest[queue] = min(run_at, oldest.get(queue, run_at))
    for queue, state, number in turn.run(_COUNT_ENDED).fetchall():
        counts.setdefault(queue, {})[STATES[state]] = number
    paused = {queue for (queue,) in turn.run(_PAUSED).fetchall()}
    stats: list[QueueStat] = []
    for queue in sorted({*counts, *paused}):
        of_queue = counts.get(queue, {})
        waited = max(0, turn.now - oldest[queue]) if queue in oldest else None
        in_order = tuple((state, of_queue[state]) for state in State if state in of_queue)
        stats.append(QueueStat(queue, queue in paused, in_order, waited))
    return Stats(turn.now, tuple(stats))


def dump(turn: Turn, op: TakeDump) -> Dump:
    jobs = tuple([_anonymous(row_of(record).job()) for record in turn.run(_DUMP_JOBS).fetchall()])
    holders = [row_of(record) for record in turn.run(_DUMP_KEYS).fetchall()]
    keys = sorted((row.key, row.spec.id) for row in holders if row.key is not None and holds_key(row, turn.now))
    paused = sorted(queue for (queue,) in turn.run(_PAUSED).fetchall())
    return Dump(jobs, tuple(paused), tuple(keys), turn.floor)


def _anonymous(job: Job) -> Job:
    if job.life.hold is None:
        return job
    return evolve(job, life=evolve(job.life, hold=evolve(job.life.hold, member="")))
