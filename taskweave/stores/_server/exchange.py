"""Exchange and renew: what a worker needs, in one transaction each.

An exchange promotes, then settles, then claims, so that later steps see earlier ones. The claim takes queues in the
order given. In a queue it asks each lane (a known task that waits there, and its fragile jobs if any may be taken) for
as many jobs as it still wants, locked, and merges them by rank. A ready job that has expired is met once: it is set
aside, out of the ready index, until maintenance writes its end; where that left the claim short, it asks once more.
Rows that were locked and not taken are free again at the commit.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from heapq import merge
from operator import itemgetter
from typing import Final

from taskweave.core import life as lives
from taskweave.core.ids import Micros
from taskweave.core.job import Spec
from taskweave.core.queue.exchange import PROMOTED_MAX, SKIPPED_MAX
from taskweave.core.verbs import CancelRequested, Claimed, Exchange, Exchanged, Lease, Renew, Renewed
from taskweave.stores._server.rows import Record, Row
from taskweave.stores._server.settle import (
    check_settlements,
    in_order,
    not_succeeded,
    progress,
    settle_special,
    split,
    succeed_at_once,
)
from taskweave.stores._server.turn import Ask, Turn
from taskweave.stores.documents import life_document, spec_rest

FEW_TASKS: Final = 3  # known tasks, up to which asking for each is cheaper than asking which wait

_in_order = itemgetter(0, 1, 2)  # rank, seq
_SEQ, _FRAGILE, _EXPIRES_AT = 2, 3, 14  # places in a record of the statement ready


async def exchange(turn: Turn, op: Exchange) -> Exchanged:
    """Raises InvalidValue or IllegalTransition, and then nothing has changed."""
    check_settlements(op.settle)
    queues = list(dict.fromkeys(op.queues))
    plain, special = split(op.settle)
    asks: list[Ask] = [("due", queue, turn.now, PROMOTED_MAX) for queue in queues]
    asks += [("paused",), ("claim_by_id", op.claim_id)]
    *due, found_paused, earlier = await turn.link.fetch_all(asks)
    await promote_first(turn, due, PROMOTED_MAX)
    await progress(turn, op.progress)
    refused = await settle_special(turn, special)
    succeeding = await succeed_at_once(turn, plain)
    paused = {queue for (queue,) in found_paused}
    open_ = [queue for queue in queues if queue not in paused]
    claim = _Claim(turn, op)
    claimed = await claim.take(open_, earlier)
    refused += await not_succeeded(turn, succeeding)
    last: list[Ask] = [("cancels", op.member)]
    if len(claimed) < op.want and open_:
        last.append(("next_due", open_))
    asked, *heads = await turn.link.fetch_last(last)
    first_due = None
    if len(claimed) < op.want:
        first_due = turn.now if claim.skipped >= SKIPPED_MAX else heads[0][0][0] if heads else None
    return Exchanged(turn.now, in_order(op.settle, refused), tuple(claimed), cancel_requests(asked), first_due)


async def renew(turn: Turn, op: Renew) -> Renewed:
    rows = await turn.rows_by_id([lease.id for lease in op.leases])
    lost: list[Lease] = []
    kept: list[int] = []
    until = turn.now + op.lease_us
    for lease in op.leases:
        row = rows.get(lease.id)
        life = None if row is None else lives.renew(row.life, lease.fence, turn.now, op.lease_us)
        if row is None or life is None:
            lost.append(lease)
            continue
        row.life = life
        kept.append(row.seq)
    if kept:
        await turn.link.write("job_renew", until, kept)
    await progress(turn, op.progress)
    (asked,) = await turn.link.fetch_last([("cancels", op.member)])
    return Renewed(turn.now, tuple(lost), cancel_requests(asked))


# --- promotion ----------------------------------------------------------------------------------------------------


async def promote(turn: Turn, queues: Sequence[str], limit: int) -> int:
    """Make ready what is due in these queues, at most `limit`, by (run_at, seq) across them."""
    return await promote_first(
        turn, await turn.link.fetch_all([("due", queue, turn.now, limit) for queue in queues]), limit
    )


async def promote_first(turn: Turn, due: Iterable[Sequence[Record]], limit: int) -> int:
    """Make ready the first of what is due in several queues."""
    seqs = [seq for _, seq in sorted([(run_at, seq) for records in due for run_at, seq in records])[:limit]]
    if seqs:
        await turn.link.write("job_promote", seqs)
    return len(seqs)


async def paused_queues(turn: Turn) -> set[str]:
    return {queue for (queue,) in await turn.link.fetch("paused")}


async def next_due(turn: Turn, queues: Iterable[str], paused: set[str]) -> Micros | None:
    """When the first scheduled job of these queues, paused ones left out, is due."""
    open_ = [queue for queue in queues if queue not in paused]
    if not open_:
        return None
    ((due,),) = await turn.link.fetch("next_due", open_)
    return None if due is None else int(due)


# --- claim --------------------------------------------------------------------------------------------------------


class _Claim:
    """One claim under way: what it may still take, and what it has."""

    def __init__(self, turn: Turn, op: Exchange) -> None:
        self.turn = turn
        self.op = op
        self.fragile = op.fragile
        self.skipped = 0
        self.over: int | None = None  # the number of an earlier claim of this claim_id, under which nothing runs
        self.taken: list[Record] = []

    async def take(self, queues: Sequence[str], earlier: Sequence[Record]) -> list[Claimed]:
        """The jobs still running under this claim_id, which `earlier` tells of; only if there are none, new ones."""
        running = await self._again(earlier)
        if running:
            return running
        if not queues or not self.op.tasks or self.op.want <= 0:
            return []
        await self._open()
        await self.turn.link.write("job_take_back", list(queues), self.turn.now)  # if the clock ran back
        for queue in queues:
            lanes = await self._lanes(queue)
            while lanes and self._wants() and await self._round(lanes):
                pass
        if not self.taken:
            await self.turn.link.write("claim_close")
            return []
        return await self._start()

    async def _open(self) -> None:
        """Take the claim_id before any job: who sends it meanwhile waits here, and finds then what this one has taken.

        Without that, a second sending could find every job locked by the first, and be told that there is none.
        """
        if self.over is not None:  # this one, and not whatever has the claim_id now
            await self.turn.link.write("claim_delete", self.over)
        await self.turn.link.write("claim_open", self.op.claim_id, self.op.member, self.turn.now + self.op.lease_us)

    def _wants(self) -> int:
        return 0 if self.skipped >= SKIPPED_MAX else self.op.want - len(self.taken)

    async def _again(self, earlier: Sequence[Record]) -> list[Claimed]:
        if not earlier:
            return []
        ((number, seqs),) = earlier
        self.over = number
        rows = sorted((await self.turn.rows_by_seq(json.loads(seqs))).items())
        return [handed_out(row) for _, row in rows if row.life.hold is not None and row.claim == number]

    async def _lanes(self, queue: str) -> list[tuple[str, str, int]]:
        known = dict.fromkeys(self.op.tasks)
        if len(known) <= FEW_TASKS:
            tasks = list(known)
        else:
            tasks = [task for (task,) in await self.turn.link.fetch("ready_tasks", queue) if task in known]
        kinds = (0, 1) if self.fragile > 0 else (0,)
        return [(queue, task, kind) for task in tasks for kind in kinds]

    async def _round(self, lanes: Sequence[tuple[str, str, int]]) -> bool:
        """Take from these lanes what they give at once; True if expired jobs stood in the way and more may come."""
        limit = self._wants()
        avoid = [record[_SEQ] for record in self.taken] or [0]
        found = await self.turn.link.fetch_all([("ready", *lane, avoid, limit) for lane in lanes])
        expired: list[int] = []
        left = [len(records) for records in found]
        ways = [[(*record, place) for record in records] for place, records in enumerate(found)]
        for *record, place in merge(*ways, key=_in_order):
            left[place] -= 1
            if not self._pick(tuple(record), expired) or not self._wants():
                break
            if not left[place] and len(found[place]) == limit:
                break  # what comes next in this lane is not known yet
        if expired:
            await self.turn.link.write("job_set_aside", expired)
        return bool(expired)

    def _pick(self, record: Record, expired: list[int]) -> bool:
        """Take or set aside the next job; False when no more may be looked at."""
        is_fragile, expires_at = record[_FRAGILE], record[_EXPIRES_AT]
        if is_fragile and self.fragile <= 0:
            return True
        if expires_at is not None and expires_at <= self.turn.now:
            expired.append(record[_SEQ])
            self.skipped += 1
            return self.skipped < SKIPPED_MAX
        self.taken.append(record)
        self.fragile -= is_fragile
        return True

    async def _start(self) -> list[Claimed]:
        turn, op, now = self.turn, self.op, self.turn.now
        seqs = [record[_SEQ] for record in self.taken]
        until = now + op.lease_us
        await turn.link.write("claim_start", json.dumps(seqs), until, now, seqs)
        return [started(record, now) for record in self.taken]


def started(record: Record, now: Micros) -> Claimed:
    """What the worker is given for a record of the statement ready, which is as it was before the claim."""
    _, _, _, _, id, queue, task, payload, rest, life_rest, attempt, fence, run_at, due_at, _ = record
    return Claimed(
        Spec(id, task, queue, bytes(payload), *spec_rest(rest)),
        attempt + 1,
        fence + 1,
        0 if life_rest is None else life_document(life_rest).get("lost", 0),
        max(0, now - due_at),
        max(0, now - run_at),
    )


def handed_out(row: Row) -> Claimed:
    """What the worker was given; the same at a repeat, since it counts from the start."""
    life = row.life
    assert life.hold is not None
    began = life.hold.started_at
    return Claimed(
        row.spec, life.attempt, life.fence, life.lost_count, max(0, began - row.due_at), max(0, began - life.run_at)
    )


def cancel_requests(records: Sequence[Record]) -> tuple[CancelRequested, ...]:
    return tuple([CancelRequested(id, fence, json.loads(reason)) for id, fence, reason in records])
