"""What operators do to jobs and queues; each verb changes the jobs that allow it and answers for every one."""

from __future__ import annotations

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
from taskweave.stores._server.rows import NUMBER, SUCCEEDED, Row
from taskweave.stores._server.turn import Turn


async def cancel(turn: Turn, op: CancelJobs) -> tuple[Changed, ...]:
    rows = await turn.rows_by_id(op.ids)
    changed: dict[int, Row] = {}
    answers: list[Changed] = []
    for id in op.ids:
        row = rows.get(id)
        if row is None:
            answers.append(Changed(id, Change.UNKNOWN))
            continue
        change, life = lives.cancel(row.life, op.reason, turn.now)
        if life is not row.life:
            row.life = life
            changed[row.seq] = row
        answers.append(Changed(id, change, row.life.state))
    await turn.save(list(changed.values()))
    return tuple(answers)


async def retry(turn: Turn, op: RetryJobs) -> tuple[Changed, ...]:
    """Refused where another job holds the unique key now, whatever its scope: the key says that one is enough."""
    return tuple([await _retry(turn, id, op.by) for id in op.ids])


async def _retry(turn: Turn, id: JobId, by: str) -> Changed:
    row = await turn.row(id)
    if row is None:
        return Changed(id, Change.UNKNOWN)
    job = lives.revive(row.job(), by, turn.now)
    if job is None:
        return Changed(id, Change.REFUSED, row.life.state)
    unique = row.spec.unique
    holder = None if unique is None else await turn.holder(unique.key)
    if holder is not None and holder.seq != row.seq:
        return Changed(id, Change.KEY_TAKEN, row.life.state, holder.spec.id)
    row.become(job)
    await turn.edit(row)
    return Changed(id, Change.DONE, row.life.state)


async def delete(turn: Turn, op: DeleteJobs) -> tuple[Changed, ...]:
    rows = await turn.rows_by_id(op.ids)
    answers: list[Changed] = []
    gone: list[int] = []
    for id in op.ids:
        row = rows.get(id)
        if row is None:
            answers.append(Changed(id, Change.UNKNOWN))
        elif row.life.state is State.RUNNING:
            answers.append(Changed(id, Change.REFUSED, row.life.state))
        else:
            gone.append(rows.pop(id).seq)
            answers.append(Changed(id, Change.DONE))
    await turn.remove(gone)
    return tuple(answers)


async def update(turn: Turn, op: UpdateJob) -> Changed:
    """Raises InvalidValue for a priority or delay out of bounds."""
    check_change(op.priority, op.delay_us)
    row = await turn.row(op.id)
    if row is None:
        return Changed(op.id, Change.UNKNOWN)
    job = lives.changed(row.job(), op.priority, op.delay_us, turn.now)
    if job is None:
        return Changed(op.id, Change.REFUSED, row.life.state)
    row.become(job)
    await turn.edit(row)
    return Changed(op.id, Change.DONE, row.life.state)


async def pause(turn: Turn, op: PauseQueue) -> bool:
    check_name("queue", op.queue)
    return await turn.link.execute("pause", op.queue) > 0


async def resume(turn: Turn, op: ResumeQueue) -> bool:
    return await turn.link.execute("resume", op.queue) > 0


async def purge(turn: Turn, op: PurgeQueue) -> int:
    """The earliest due go first, by (run_at, seq)."""
    if op.limit <= 0:
        return 0
    found: list[tuple[int, int]] = []
    for name in ("purge_scheduled", "purge_ready", "purge_aside"):
        found += [(run_at, seq) for run_at, seq in await turn.link.fetch(name, op.queue, op.limit)]
    found.sort()
    seqs = [seq for _, seq in found[: op.limit]]
    await turn.remove(seqs)
    return len(seqs)


async def prune(turn: Turn, op: Prune) -> int:
    """The earliest finished go first, by (finished_at, seq); what holds a unique window is kept."""
    states = [number for state in dict.fromkeys(op.states) if (number := NUMBER[state]) >= SUCCEEDED]
    if not states or op.limit <= 0:
        return 0
    found: list[tuple[int, int]] = []
    for number in states:
        records = await turn.link.fetch("ended", number, turn.now - op.older_us, turn.now, op.limit)
        found += [(finished_at, seq) for finished_at, seq in records]
    found.sort()
    seqs = [seq for _, seq in found[: op.limit]]
    await turn.remove(seqs)
    return len(seqs)
