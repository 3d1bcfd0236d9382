"""Exchange and renew: what a worker needs, in one transaction each.

An exchange promotes, then settles in the given order, then claims, so that later steps see earlier ones. The claim
takes queues in the order given. In a queue it merges lazily stepped cursors over the ready index, one for each known
task that waits there, so that it reads the jobs that it takes and one more for each task, whatever the backlog.
A ready job that has expired is met once: it is set aside, out of that index, until maintenance writes its end.
An exchange that changes nothing writes nothing: else two idle workers would wake each other for ever.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from heapq import merge
from itertools import chain
from operator import itemgetter
from typing import Any, Final

from taskweave.core import life as lives
from taskweave.core.ids import Micros
from taskweave.core.job import Spec
from taskweave.core.queue.exchange import PROMOTED_MAX, SKIPPED_MAX
from taskweave.core.verbs import CancelRequested, Claimed, Exchange, Exchanged, Lease, Renew, Renewed
from taskweave.stores._sqlite.rows import Record, Row
from taskweave.stores._sqlite.settle import check_settlements, progress, settle
from taskweave.stores._sqlite.statements import statement
from taskweave.stores._sqlite.turn import Turn, listed
from taskweave.stores.documents import life_document, spec_rest

_PAUSED: Final = statement("paused")
_DUE: Final = statement("due")
_NEXT_DUE: Final = statement("next_due")
_PROMOTE: Final = statement("job_promote")
_RENEW: Final = statement("job_renew")
_CANCELS: Final = statement("cancels")
_CLAIM_BY_ID: Final = statement("claim_by_id")
_CLAIM_INSERT: Final = statement("claim_insert")
_CLAIM: Final = statement("job_claim")
_READY_LANE: Final = statement("ready_lane")
# Python caches one prepared statement for each text, and prepares anew while that one is being stepped.
_READY: Final = tuple(statement("ready") + " -- cursor " + str(place) for place in range(16))
_READY_TASKS: Final = statement("ready_tasks")
_ASIDE: Final = statement("job_set_aside")
_ASIDE_OVER: Final = statement("aside_over")
_TAKE_BACK: Final = statement("job_take_back")

_FEW_TASKS: Final = 3  # known tasks, up to which asking for each is cheaper than asking which wait
_in_order = itemgetter(0, 1, 2)  # rank, seq
_SEQ, _FRAGILE, _EXPIRES_AT = 2, 3, 14  # places in a record of _READY


def exchange(turn: Turn, op: Exchange) -> Exchanged:
    """Raises StoreFull, InvalidValue or IllegalTransition, and then nothing has changed."""
    if op.settle:
        check_settlements(turn, op.settle)
    queues = tuple(dict.fromkeys(op.queues))
    promote(turn, queues, PROMOTED_MAX)
    if op.progress:
        progress(turn, op.progress)
    refused = settle(turn, op.settle) if op.settle else ()
    paused = {queue for (queue,) in turn.run(_PAUSED).fetchall()}
    claim = _Claim(turn, op)
    claimed = claim.take([queue for queue in queues if queue not in paused])
    due = None
    if len(claimed) < op.want:
        due = turn.now if claim.skipped >= SKIPPED_MAX else next_due(turn, queues, paused)
    return Exchanged(turn.now, refused, tuple(claimed), _cancels(turn, op.member), due)


def renew(turn: Turn, op: Renew) -> Renewed:
    rows = turn.rows_by_id({lease.id for lease in op.leases})
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
        turn.run(_RENEW, (until, listed(kept)))
    if op.progress:
        progress(turn, op.progress)
    return Renewed(turn.now, tuple(lost), _cancels(turn, op.member))


# --- promotion ----------------------------------------------------------------------------------------------------


def promote(turn: Turn, queues: Iterable[str], limit: int) -> int:
    """Make ready what is due in these queues, at most `limit`, by (run_at, seq) across them."""
    due: list[tuple[Micros, int]] = []
    for queue in queues:
        due += turn.run(_DUE, (queue, turn.now, limit)).fetchall()
    if not due:
        return 0
    due.sort()
    seqs = [seq for _, seq in due[:limit]]
    turn.run(_PROMOTE, (listed(seqs),))
    return len(seqs)


def next_due(turn: Turn, queues: Iterable[str], paused: set[str]) -> Micros | None:
    """When the first scheduled job of these queues, paused ones left out, is due."""
    heads = [turn.run(_NEXT_DUE, (queue,)).fetchone() for queue in queues if queue not in paused]
    return min([head[0] for head in heads if head is not None], default=None)


# --- claim --------------------------------------------------------------------------------------------------------


class _Claim:
    """One claim under way: what it may still take, and what it has."""

    def __init__(self, turn: Turn, op: Exchange) -> None:
        self.turn = turn
        self.op = op
        self.fragile = op.fragile
        self.skipped = 0
        self.taken: list[Record] = []
        self.expired: list[int] = []

    def take(self, queues: Iterable[str]) -> list[Claimed]:
        """The jobs still running under this claim_id; only if there are none, new ones."""
        running = self._again()
        if running:
            return running
        for queue in queues:
            if len(self.taken) >= self.op.want or self.skipped >= SKIPPED_MAX:
                break
            self._take_from(queue)
        if self.expired:
            self.turn.run(_ASIDE, (listed(self.expired),))
        return self._start() if self.taken else []

    def _again(self) -> list[Claimed]:
        found = self.turn.run(_CLAIM_BY_ID, (self.op.claim_id,)).fetchone()
        if found is None:
            return []
        number, seqs = found
        rows = sorted(self.turn.rows_by_seq_text(seqs).items())
        return [handed_out(row) for _, row in rows if row.life.hold is not None and row.claim == number]

    def _take_from(self, queue: str) -> None:
        turn, want, now = self.turn, self.op.want, self.turn.now
        if turn.run(_ASIDE_OVER, (queue, now)).fetchone() is not None:
            turn.run(_TAKE_BACK, (queue, now))  # the clock ran back
        take = self.taken.append
        cursors = self._cursors(queue)
        for record in merge(*cursors, key=_in_order) if len(cursors) > 1 else chain(*cursors):
            is_fragile, expires_at = record[_FRAGILE], record[_EXPIRES_AT]
            if is_fragile and self.fragile <= 0:
                continue
            if expires_at is not None and expires_at <= now:
                self.expired.append(record[_SEQ])
                self.skipped += 1
                if self.skipped >= SKIPPED_MAX:
                    break
                continue
            take(record)
            self.fragile -= is_fragile
            if len(self.taken) >= want:
                break
        for cursor in cursors:
            cursor.close()

    def _cursors(self, queue: str) -> list[sqlite3.Cursor]:
        """One for each lane, that is each known task with jobs here, and for its fragile jobs if any may be taken."""
        turn = self.turn
        known = dict.fromkeys(self.op.tasks)
        tasks = known if len(known) <= _FEW_TASKS else [task for task in self._waiting(queue) if task in known]
        kinds = (0, 1) if self.fragile > 0 else (0,)
        lanes = [(queue, task, kind) for task in tasks for kind in kinds]
        lanes = [lane for lane in lanes if turn.run(_READY_LANE, lane).fetchone() is not None]
        return [turn.ordered(_READY[place % len(_READY)], lane) for place, lane in enumerate(lanes)]

    def _waiting(self, queue: str) -> Iterator[str]:
        """The tasks that wait in this queue, found by leaping along the ready index."""
        task = ""
        while (found := self.turn.run(_READY_TASKS, (queue, task)).fetchone()) is not None:
            task = found[0]
            yield task

    def _start(self) -> list[Claimed]:
        turn, op, now = self.turn, self.op, self.turn.now
        seqs = listed([record[_SEQ] for record in self.taken])
        until = now + op.lease_us
        number = turn.run(_CLAIM_INSERT, (op.claim_id, op.member, until, seqs)).lastrowid
        turn.run(_CLAIM, (number, until, now, seqs))
        return list(map(self._handed_out, self.taken))

    def _handed_out(self, record: Record) -> Claimed:
        _, _, _, _, id, queue, task, payload, rest, life_rest, attempt, fence, run_at, due_at, _ = record
        age, wait = self.turn.now - due_at, self.turn.now - run_at
        return Claimed(
            Spec(id, task, queue, payload, *spec_rest(rest)),
            attempt + 1,
            fence + 1,
            0 if life_rest is None else life_document(life_rest).get("lost", 0),
            age if age > 0 else 0,
            wait if wait > 0 else 0,
        )


def handed_out(row: Row) -> Claimed:
    """What the worker was given; the same at a repeat, since it counts from the start."""
    life = row.life
    assert life.hold is not None
    started = life.hold.started_at
    return Claimed(
        row.spec, life.attempt, life.fence, life.lost_count, max(0, started - row.due_at), max(0, started - life.run_at)
    )


def _cancels(turn: Turn, member: str) -> tuple[CancelRequested, ...]:
    found: list[tuple[Any, ...]] = turn.run(_CANCELS, (member,)).fetchall()
    return tuple([CancelRequested(id, fence, life_document(text).get("cancel", "")) for id, fence, text in found])
