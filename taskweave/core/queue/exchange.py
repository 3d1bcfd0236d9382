"""Exchange and renew: what a worker needs, in one atomic step each.

An exchange promotes, then settles in the given order, then claims, so that later steps see earlier ones. Everything
that could fail the whole of it is found before the first write. A settlement that changes nothing is refused, and
stops neither the others nor the claim.

The claim takes queues in the order given and, in a queue, merges the heads of the orders of the known tasks by
(rank, run_at, seq): its cost is that of what it takes and of the tasks that wait, not of the backlog. A job whose
deadline has passed is skipped; it is set aside, so that it is met once in its life and not at every claim. A claim
that had to skip SKIPPED_MAX jobs ends short, and says by its next_due that it wants to be asked again.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappop, heapreplace
from typing import Final, TypeAlias

from taskweave.core import life as lives
from taskweave.core.bounds import check_batch
from taskweave.core.ids import SPAN_MAX_US, Micros
from taskweave.core.job import Spec
from taskweave.core.queue.enqueue import make_room, spawn
from taskweave.core.queue.order import Order
from taskweave.core.queue.table import Lanes, Line, Row, Table
from taskweave.core.ready import rank
from taskweave.core.verbs import (
    CancelRequested,
    Claimed,
    Exchange,
    Exchanged,
    Lease,
    LeaseProgress,
    Renew,
    Renewed,
    Settlement,
)
from taskweave.exceptions import IllegalTransition, InvalidInput, InvalidValue

PROMOTED_MAX: Final = 1_000  # jobs in one exchange
SKIPPED_MAX: Final = 1_000  # expired jobs that one claim steps over

_Head: TypeAlias = tuple[int, int, int, Order, Lanes, str, int]  # rank, seq; then its order and where that is


def exchange(table: Table, op: Exchange, now: Micros) -> Exchanged:
    """Raises StoreFull, InvalidValue or IllegalTransition, and then nothing has changed."""
    _check(table, op.settle, now)
    promote(table, [line for queue in dict.fromkeys(op.queues) if (line := table.lines.get(queue))], now, PROMOTED_MAX)
    _progress(table, op.progress, now)
    refused = _settle(table, op.settle, now) if op.settle else ()
    claim = _Claim(table, op, now)
    claimed = claim.take()
    due = None
    if len(claimed) < op.want:
        due = now if claim.skipped >= SKIPPED_MAX else next_due(table, op.queues)
    return Exchanged(now, refused, tuple(claimed), _cancels(table, op.member), due)


def renew(table: Table, op: Renew, now: Micros) -> Renewed:
    lost: list[Lease] = []
    for lease in op.leases:
        row = table.ids.get(lease.id)
        life = None if row is None else lives.renew(row.life, lease.fence, now, op.lease_us)
        if row is None or life is None:
            lost.append(lease)
        else:
            table.step(row, life, now)
    _progress(table, op.progress, now)
    return Renewed(now, tuple(lost), _cancels(table, op.member))


# --- promotion ----------------------------------------------------------------------------------------------------


def promote(table: Table, lines: Iterable[Line], now: Micros, limit: int) -> int:
    """Make ready what is due in these lines, at most `limit`, by (run_at, seq) across them."""
    heads = [(*head, line) for line in lines if (head := line.scheduled.head()) is not None and head[0] <= now]
    heapify(heads)
    count = 0
    while heads and count < limit:
        _, seq, line = heads[0]
        row = table.rows[seq]
        life = lives.promote(row.life, now)
        assert life is not None
        table.step(row, life, now)
        count += 1
        head = line.scheduled.head()
        if head is None or head[0] > now:
            heappop(heads)
        else:
            heapreplace(heads, (*head, line))
    return count


def next_due(table: Table, queues: Iterable[str]) -> Micros | None:
    """When the first scheduled job of these queues, paused ones left out, is due."""
    dues: list[Micros] = []
    for queue in queues:
        line = table.lines.get(queue)
        if line is not None and queue not in table.paused:
            head = line.scheduled.head()
            if head is not None:
                dues.append(head[0])
    return min(dues, default=None)


# --- settlement ---------------------------------------------------------------------------------------------------


def _check(table: Table, settlements: tuple[Settlement, ...], now: Micros) -> None:
    """What fails the whole exchange, asked before the first write."""
    spawned = 0
    for settlement in settlements:
        if settlement.verb not in lives.SETTLING:
            raise IllegalTransition("running", settlement.verb.value)
        if settlement.delay_us and not 0 <= settlement.delay_us <= SPAN_MAX_US:
            raise InvalidValue("delay", settlement.delay_us, "microseconds from 0 to ten years")
        if settlement.spawn:
            row = table.ids.get(settlement.id)
            if row is not None and row.life.hold is not None and row.life.fence == settlement.fence:
                spawned += sum(spec.id not in table.ids for spec in settlement.spawn)
    if spawned:
        make_room(table, spawned, now)


def _settle(table: Table, settlements: tuple[Settlement, ...], now: Micros) -> tuple[Lease, ...]:
    refused: list[Lease] = []
    ids = table.ids
    for settlement in settlements:
        row = ids.get(settlement.id)
        life = None if row is None else lives.settle(row, settlement, now)
        if row is None or life is None:
            refused.append(Lease(settlement.id, settlement.fence))
        elif life is row.life:
            continue  # a repeat, and what it spawned is there
        elif not settlement.spawn:
            table.step(row, life, now)
        elif _can_spawn(table, settlement.spawn):
            table.step(row, life, now)
            spawn(table, settlement.spawn, now)
        else:
            refused.append(Lease(settlement.id, settlement.fence))
    return tuple(refused)


def _can_spawn(table: Table, specs: tuple[Spec, ...]) -> bool:
    try:
        check_batch(specs, table.payload_bytes_max)
    except InvalidInput:  # expected trouble of one outcome, answered as refused
        return False
    return True


def _progress(table: Table, progress: tuple[LeaseProgress, ...], now: Micros) -> None:
    for made in progress:
        row = table.ids.get(made.id)
        life = None if row is None else lives.progressed(row.life, made.fence, made.progress)
        if row is not None and life is not None:
            table.step(row, life, now)


def _cancels(table: Table, member: str) -> tuple[CancelRequested, ...]:
    asked = table.cancels.get(member)
    if asked is None:
        return ()
    return tuple(
        [
            CancelRequested(row.spec.id, row.life.fence, row.life.hold.cancel or "")
            for row in asked.values()
            if row.life.hold
        ]
    )


# --- claim --------------------------------------------------------------------------------------------------------


class _Claim:
    """One claim under way: what it may still take, and what it has."""

    def __init__(self, table: Table, op: Exchange, now: Micros) -> None:
        self.table = table
        self.op = op
        self.now = now
        self.fragile = op.fragile
        self.skipped = 0
        self.claimed: list[Claimed] = []

    def take(self) -> list[Claimed]:
        """The jobs still running under this claim_id; only if there are none, new ones."""
        running = self.table.claims.get(self.op.claim_id)
        if running is not None:
            return [handed_out(row) for row in running.values()]
        for queue in self.op.queues:
            if len(self.claimed) >= self.op.want or self.skipped >= SKIPPED_MAX:
                break
            line = self.table.lines.get(queue)
            if line is not None and queue not in self.table.paused:
                if line.aside and self.now < line.aside_at:
                    self.table.take_back(line)
                self._take_from(line)
        return self.claimed

    def _take_from(self, line: Line) -> None:
        heads: list[_Head] = []
        for lanes in (line.plain, line.fragile) if self.fragile > 0 else (line.plain,):
            for task in _known(lanes, self.op.tasks):
                for priority, order in lanes[task].items():
                    self._add_head(heads, order, lanes, task, priority)
        heapify(heads)
        table, now, want, aging = self.table, self.now, self.op.want, self.table.aging_us
        while heads and len(self.claimed) < want and self.skipped < SKIPPED_MAX:
            _, _, seq, order, lanes, task, priority = heads[0]
            if lanes is line.fragile and self.fragile <= 0:
                heappop(heads)
                continue
            head = order.pop()
            row = table.rows[seq]
            if row.expires_at is not None and row.expires_at <= now:
                table.set_aside(line, row, now)
                self.skipped += 1
            else:
                self._start(line, row)
                self.fragile -= lanes is line.fragile
            if head is None:
                heappop(heads)
                line.close(lanes, task, priority)
            else:
                heapreplace(heads, (*rank(priority, head[0], aging), head[1], order, lanes, task, priority))

    def _add_head(self, heads: list[_Head], order: Order, lanes: Lanes, task: str, priority: int) -> None:
        head = order.head()
        assert head is not None  # an order that empties is closed at once
        heads.append((*rank(priority, head[0], self.table.aging_us), head[1], order, lanes, task, priority))

    def _start(self, line: Line, row: Row) -> None:
        op = self.op
        life = lives.claim(row.life, op.member, op.claim_id, self.now, op.lease_us)
        self.table.start(line, row, life, self.now)
        self.claimed.append(handed_out(row))


def handed_out(row: Row) -> Claimed:
    """What the worker is given; the same at a repeat, since it counts from the start."""
    life = row.life
    assert life.hold is not None
    started = life.hold.started_at
    age_us, wait_us = started - row.due_at, started - life.run_at
    if age_us < 0 or wait_us < 0:  # the clock went back since the promotion
        age_us, wait_us = max(0, age_us), max(0, wait_us)
    return Claimed(row.spec, life.attempt, life.fence, life.lost_count, age_us, wait_us)


def _known(lanes: Lanes, tasks: tuple[str, ...]) -> Iterable[str]:
    """The tasks that wait here and are known, found from the shorter of the two lists."""
    if len(tasks) <= len(lanes):
        return [task for task in dict.fromkeys(tasks) if task in lanes]
    return [task for task in lanes if task in tasks]
