"""What operators do to jobs and queues; each verb changes the jobs that allow it and answers for every one."""

from __future__ import annotations

from heapq import heapify, heappop, heapreplace

from taskweave.core import life as lives
from taskweave.core.bounds import check_change, check_name
from taskweave.core.ids import JobId, Micros
from taskweave.core.job import State
from taskweave.core.queue.order import Entry, Order
from taskweave.core.queue.table import Table
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


def cancel(table: Table, op: CancelJobs, now: Micros) -> tuple[Changed, ...]:
    answers: list[Changed] = []
    for id in op.ids:
        row = table.ids.get(id)
        if row is None:
            answers.append(Changed(id, Change.UNKNOWN))
            continue
        change, life = lives.cancel(row.life, op.reason, now)
        if life is not row.life:
            table.step(row, life, now)
        answers.append(Changed(id, change, row.life.state))
    return tuple(answers)


def retry(table: Table, op: RetryJobs, now: Micros) -> tuple[Changed, ...]:
    """Refused where another job holds the unique key now, whatever its scope: the key says that one is enough."""
    return tuple([_retry(table, id, op.by, now) for id in op.ids])


def _retry(table: Table, id: JobId, by: str, now: Micros) -> Changed:
    row = table.ids.get(id)
    if row is None:
        return Changed(id, Change.UNKNOWN)
    job = lives.revive(row.job(), by, now)
    if job is None:
        return Changed(id, Change.REFUSED, row.life.state)
    unique = row.spec.unique
    holder = None if unique is None else table.holder(unique.key, now)
    if holder is not None and holder is not row:
        return Changed(id, Change.KEY_TAKEN, row.life.state, holder.spec.id)
    table.edit(row, job, now)
    return Changed(id, Change.DONE, row.life.state)


def delete(table: Table, op: DeleteJobs, now: Micros) -> tuple[Changed, ...]:
    answers: list[Changed] = []
    for id in op.ids:
        row = table.ids.get(id)
        if row is None:
            answers.append(Changed(id, Change.UNKNOWN))
        elif row.life.state is State.RUNNING:
            answers.append(Changed(id, Change.REFUSED, row.life.state))
        else:
            table.remove(row)
            answers.append(Changed(id, Change.DONE))
    return tuple(answers)


def update(table: Table, op: UpdateJob, now: Micros) -> Changed:
    """Raises InvalidValue for a priority or delay out of bounds."""
    check_change(op.priority, op.delay_us)
    row = table.ids.get(op.id)
    if row is None:
        return Changed(op.id, Change.UNKNOWN)
    job = lives.changed(row.job(), op.priority, op.delay_us, now)
    if job is None:
        return Changed(op.id, Change.REFUSED, row.life.state)
    table.edit(row, job, now)
    return Changed(op.id, Change.DONE, row.life.state)


def pause(table: Table, op: PauseQueue, now: Micros) -> bool:
    check_name("queue", op.queue)
    changed = op.queue not in table.paused
    table.paused.add(op.queue)
    return changed


def resume(table: Table, op: ResumeQueue, now: Micros) -> bool:
    changed = op.queue in table.paused
    table.paused.discard(op.queue)
    return changed


def purge(table: Table, op: PurgeQueue, now: Micros) -> int:
    """The earliest due go first, by (run_at, seq)."""
    line = table.lines.get(op.queue)
    if line is None:
        return 0
    table.take_back(line)
    heads = [(head, order) for order in (line.scheduled, *line.orders()) if (head := order.head()) is not None]
    heapify(heads)
    count = 0
    while heads and count < op.limit:
        (_, seq), order = heads[0]
        table.remove(table.rows[seq])
        count += 1
        head = order.head()
        if head is None:
            heappop(heads)
        else:
            heapreplace(heads, (head, order))
    return count


def prune(table: Table, op: Prune, now: Micros) -> int:
    """The earliest finished go first, by (finished_at, seq)."""
    spared: list[tuple[Order, Entry]] = []
    count = 0
    while count < op.limit and (oldest := _oldest(table, op.states, now - op.older_us)) is not None:
        order, entry = oldest
        row = table.rows[entry[1]]
        if lives.holds_key(row, now):
            order.pop()
            spared.append(oldest)
        else:
            table.remove(row)
            count += 1
    for order, entry in spared:
        table.rows[entry[1]].place = order.push(*entry)
    return count


def _oldest(table: Table, states: tuple[State, ...], before: Micros) -> tuple[Order, Entry] | None:
    """The first to have finished of these states, if that was early enough."""
    found: tuple[Order, Entry] | None = None
    for state in states:
        order = table.finished.get(state)
        head = None if order is None else order.head()
        if order is not None and head is not None and head[0] <= before and (found is None or head < found[1]):
            found = order, head
    return found
