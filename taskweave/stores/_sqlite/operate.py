"""What operators do to jobs and queues; each verb changes the jobs that allow it and answers for every one."""

from __future__ import annotations

from heapq import merge
from typing import Final

from taskweave.core import life as lives
from taskweave.core.bounds import check_change, check_name
from taskweave.core.ids import JobId
from taskweave.core.job import State
from taskweave.core.verbs import (
    CancelJobs,
    Change,
    Changed,
    DeleteJobs,
    PauseQueue,
    Prune,
    PurgeQueue,
    ResumeQueue,
    RetryJobs,
    UpdateJob,
)
from taskweave.stores._sqlite.enqueue import become
from taskweave.stores._sqlite.rows import NUMBER, SUCCEEDED, Row
from taskweave.stores._sqlite.statements import statement
from taskweave.stores._sqlite.turn import Turn

_PAUSE: Final = statement("pause")
_RESUME: Final = statement("resume")
_PURGE_FROM: Final = tuple(statement(name) for name in ("purge_scheduled", "purge_ready", "purge_aside"))
_ENDED: Final = statement("ended")


def cancel(turn: Turn, op: CancelJobs) -> tuple[Changed, ...]:
    rows = turn.rows_by_id(op.ids)
    return tuple([_cancel(turn, rows.get(id), id, op.reason) for id in op.ids])


def _cancel(turn: Turn, row: Row | None, id: JobId, reason: str) -> Changed:
    if row is None:
        return Changed(id, Change.UNKNOWN)
    change, life = lives.cancel(row.life, reason, turn.now)
    if life is not row.life:
        row.life = life
        turn.save(row)
    return Changed(id, change, row.life.state)


def retry(turn: Turn, op: RetryJobs) -> tuple[Changed, ...]:
    """Refused where another job holds the unique key now, whatever its scope: the key says that one is enough."""
    return tuple([_retry(turn, id, op.by) for id in op.ids])


def _retry(turn: Turn, id: JobId, by: str) -> Changed:
    row = turn.row(id)
    if row is None:
        return Changed(id, Change.UNKNOWN)
    job = lives.revive(row.job(), by, turn.now)
    if job is None:
        return Changed(id, Change.REFUSED, row.life.state)
    unique = row.spec.unique
    holder = None if unique is None else turn.holder(unique.key)
    if holder is not None and holder.seq != row.seq:
        return Changed(id, Change.KEY_TAKEN, row.life.state, holder.spec.id)
    become(row, job)
    turn.edit(row)
    return Changed(id, Change.DONE, row.life.state)


def delete(turn: Turn, op: DeleteJobs) -> tuple[Changed, ...]:
    rows = turn.rows_by_id(op.ids)
    answers: list[Changed] = []
    for id in op.ids:
        row = rows.get(id)
        if row is None:
            answers.append(Changed(id, Change.UNKNOWN))
        elif row.life.state is State.RUNNING:
            answers.append(Changed(id, Change.REFUSED, row.life.state))
        else:
            turn.remove([rows.pop(id).seq])
            answers.append(Changed(id, Change.DONE))
    return tuple(answers)


def update(turn: Turn, op: UpdateJob) -> Changed:
    """Raises InvalidValue for a priority or delay out of bounds."""
    check_change(op.priority, op.delay_us)
    row = turn.row(op.id)
    if row is None:
        return Changed(op.id, Change.UNKNOWN)
    job = lives.changed(row.job(), op.priority, op.delay_us, turn.now)
    if job is None:
        return Changed(op.id, Change.REFUSED, row.life.state)
    become(row, job)
    turn.edit(row)
    return Changed(op.id, Change.DONE, row.life.state)


def pause(turn: Turn, op: PauseQueue) -> bool:
    check_name("queue", op.queue)
    return turn.run(_PAUSE, (op.queue,)).rowcount > 0


def resume(turn: Turn, op: ResumeQueue) -> bool:
    return turn.run(_RESUME, (op.queue,)).rowcount > 0


def purge(turn: Turn, op: PurgeQueue) -> int:
    """The earliest due go first, by (run_at, seq)."""
    if op.limit <= 0:
        return 0
    found: list[tuple[int, int]] = []
    for sql in _PURGE_FROM:
        found += turn.run(sql, (op.queue, op.limit)).fetchall()
    found.sort()
    seqs = [seq for _, seq in found[: op.limit]]
    turn.remove(seqs)
    return len(seqs)


def prune(turn: Turn, op: Prune) -> int:
    """The earliest finished go first, by (finished_at, seq); what holds a unique window is kept."""
    before = turn.now - op.older_us
    states = [number for state in dict.fromkeys(op.states) if (number := NUMBER[state]) >= SUCCEEDED]
    cursors = [turn.ordered(_ENDED, (number, before)) for number in states]
    victims: list[int] = []
    for _, seq, key in merge(*cursors):
        if len(victims) >= op.limit:
            break
        if key is None or not lives.holds_key(turn.rows_by_seq((seq,))[seq], turn.now):
            victims.append(seq)
    for cursor in cursors:
        cursor.close()
    turn.remove(victims)
    return len(victims)
