"""The reads as arguments of their scripts, and the answers back. Each answer is one instant of the store."""

from __future__ import annotations

from typing import Any

from attrs import evolve

from taskweave.core.ids import Micros
from taskweave.core.job import Job, State
from taskweave.core.life import holds_key
from taskweave.core.verbs import Dump, Find, Load, QueueStat, Stats
from taskweave.stores._redis.kinds import tag_text
from taskweave.stores._redis.rows import NUMBER, STATES, ids_by_key, job_of, raw, text_of, times

Arguments = list[Any]


def load_arguments(op: Load) -> Arguments:
    return [len(op.ids), *map(raw, op.ids)]


def loaded(answer: Any) -> tuple[Job | None, ...]:
    return tuple([None if row is None else job_of(row) for row in answer])


def find_arguments(op: Find, after: int | None, want: int) -> Arguments:
    """For one step of a search: at most `want` jobs older than `after`."""
    states = {NUMBER[state] for state in op.states}
    tags = dict.fromkeys(op.tags)
    return [
        "" if after is None else after,
        want,
        b"-" if op.queue is None else b"=" + raw(op.queue),
        b"-" if op.task is None else b"=" + raw(op.task),
        len(states),
        *states,
        len(tags),
        *[raw(tag_text(*tag)) for tag in tags],
    ]


def found(answer: Any) -> tuple[list[Job], int | None]:
    """The jobs of this step, and from where to go on if there may be more."""
    rows, after = answer
    return [job_of(row) for row in rows], None if after is None else int(after)


def counted(answer: Any) -> Stats:
    now, by_state, oldest_pairs, paused_names = answer
    counts: dict[str, dict[State, int]] = {}
    for state, pairs in zip(STATES, by_state, strict=True):
        for queue, number in times(pairs).items():
            counts.setdefault(queue, {})[state] = number
    oldest: dict[str, Micros] = times(oldest_pairs)
    paused = set(map(text_of, paused_names))
    stats: list[QueueStat] = []
    for queue in sorted({*counts, *paused}):
        of_queue = counts.get(queue, {})
        waited = max(0, int(now) - oldest[queue]) if queue in oldest else None
        in_order = tuple((state, of_queue[state]) for state in State if state in of_queue)
        stats.append(QueueStat(queue, queue in paused, in_order, waited))
    return Stats(int(now), tuple(stats))


def dumped(answer: Any) -> Dump:
    rows, paused, keys, floor, now = answer
    jobs = [job_of(row) for row in rows if not isinstance(row, bytes)]
    by_id = {job.id: job for job in jobs}
    held = [(key, id) for key, id in ids_by_key(keys).items() if id in by_id and holds_key(by_id[id], int(now))]
    return Dump(
        tuple([_anonymous(job) for job in jobs]),
        tuple(sorted(map(text_of, paused))),
        tuple(sorted(held)),
        int(floor),
    )


def _anonymous(job: Job) -> Job:
    if job.life.hold is None:
        return job
    return evolve(job, life=evolve(job.life, hold=evolve(job.life.hold, member="")))
