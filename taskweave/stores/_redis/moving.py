"""Export and restore as arguments of their scripts, and the answers back (`core.moving` says what they mean)."""

from __future__ import annotations

from typing import Any, Final

from taskweave.core.bounds import INSTANT_MAX
from taskweave.core.job import Attempt, End, Job, Life
from taskweave.core.moving import PAGE_BYTES_MAX, PAGE_MAX, check_jobs, parked
from taskweave.core.verbs import Changed, Export, Exported, Restore
from taskweave.exceptions import InvalidValue
from taskweave.stores._redis.kinds import kind_of
from taskweave.stores._redis.operate import changed_one
from taskweave.stores._redis.rows import NUMBER, failure_text, job_of, packed, raw, text_of

Arguments = list[Any]

_EXACT_MAX: Final = INSTANT_MAX  # numbers beyond it are not whole in Lua


def export_arguments(op: Export) -> Arguments:
    return [op.after, max(1, min(op.limit, PAGE_MAX)), PAGE_BYTES_MAX]


def exported(answer: Any) -> Exported:
    now, rows, following, paused, aging = answer
    jobs = tuple(map(job_of, rows))
    after = None if following is None else int(following)
    return Exported(int(now), jobs, after, tuple(sorted(map(text_of, paused))), None if aging is None else int(aging))


def restore_arguments(op: Restore, payload_bytes_max: int) -> Arguments:
    """Raises InvalidInput."""
    check_jobs(op.jobs, payload_bytes_max)
    found: Arguments = [len(op.jobs)]
    for job in map(parked, op.jobs):
        found += _job(job)
    return found


def restored(op: Restore, answer: Any) -> tuple[Changed, ...]:
    return tuple([changed_one(job.id, said) for job, said in zip(op.jobs, answer, strict=True)])


def _job(job: Job) -> Arguments:
    life, end = job.life, job.life.end
    numbers = (life.run_at, life.fence, job.created_at, job.due_at, job.expires_at or 0, end.finished_at if end else 0)
    if max(numbers) > _EXACT_MAX:
        raise InvalidValue(f"a number of job {job.id}", max(numbers), f"at most {_EXACT_MAX} in a Redis store")
    fields = _fields(life)
    expires = "" if job.expires_at is None else job.expires_at
    more = 1 if end is not None and end.result is not None else 0
    counts = f"{life.fence} {life.attempt} {life.lost_count} {life.unfit_count}"
    return [
        job.id,
        kind_of(job.spec).text,
        job.spec.payload,
        f"{job.due_at} {job.created_at} {expires}",
        f"{NUMBER[life.state]} {more} {counts} {life.run_at}",
        "" if end is None else end.finished_at,
        len(fields),
        *fields,
    ]


def _fields(life: Life) -> Arguments:
    """Those of a row that not every row has; rows.lua names them."""
    fields: Arguments = []
    if life.settled is not None:
        fields += ("z", b"%d %x" % (life.settled.fence, life.settled.digest))
    if life.history:
        fields += ("x", packed(*map(_entry, life.history)))
    return fields if life.end is None else fields + _end(life.end)


def _entry(entry: Attempt) -> bytes:
    numbers = (entry.attempt, entry.fence)
    times = (entry.started_at, entry.ended_at)
    return packed(
        entry.verb.value.encode(),
        *[b"%d" % number for number in numbers],
        raw(entry.member),
        *[b"%d" % at for at in times],
        failure_text(entry.error),
        None if entry.reason is None else raw(entry.reason),
    )


def _end(end: End) -> Arguments:
    started = "" if end.started_at is None else end.started_at
    fields: Arguments = ["e", f"{end.finished_at} {started}"]
    texts = {"d": end.result_dropped, "u": end.cause, "o": end.reason}
    if end.result is not None:
        fields += ("r", end.result)
    for name, text in texts.items():
        if text is not None:
            fields += (name, raw(text))
    problem = failure_text(end.error)
    return fields if problem is None else [*fields, "w", problem]
