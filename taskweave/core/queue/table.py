"""The rows of the queue machine and the indexes over them.

A row is in exactly one place, which its state decides, and `place` is its entry there:
  scheduled  the line's scheduled order, by (run_at, seq)
  ready      one order of the line for each (task, priority), by (run_at, seq): within a priority that is the ready
             order, with and without aging, and a claim merges the heads by rank. Fragile jobs have orders of their
             own. A job that a claim met expired is set aside (no place) until maintenance writes its end.
  running    the leases, by (lease_until, seq); besides under its claim and, if asked to stop, under its member
  finished   one order for each state, by (finished_at, seq)
Besides, an unstarted row with a deadline is in `expiries`, a finished one in `prunes`, one with a result in
`results`; `expiry`, `prune` and `result` are its entries there. Unique keys point to their holder; the entry of a
lapsed window stays until it is taken over or its row goes.

Only `add`, `restore`, `remove`, `step`, `start` and `edit` change a row, and each leaves every index right. Rejected:
one heap for each queue (a worker that knows one task would have to step over the backlog of the others), and a scan
for what is due.
"""

from __future__ import annotations

from typing import Final

from taskweave.core.bounds import PAYLOAD_BYTES_MAX
from taskweave.core.ids import JobId, Micros
from taskweave.core.job import TERMINAL, Job, Life, Spec, State
from taskweave.core.life import fragile, holds_key, prune_at
from taskweave.core.queue.order import Entry, Order

Lanes = dict[str, dict[int, Order]]  # by task, by priority

# looking a member up in an enum costs more than the step that asks (0.1 us on Python 3.11)
_SCHEDULED: Final = State.SCHEDULED
_READY: Final = State.READY
_RUNNING: Final = State.RUNNING


class Row:
    """A job in the machine: mutable, and never seen outside it."""

    __slots__ = (
        "created_at",
        "due_at",
        "expires_at",
        "expiry",
        "life",
        "place",
        "prune",
        "result",
        "seq",
        "spec",
    )

    def __init__(
        self, spec: Spec, seq: int, created_at: Micros, due_at: Micros, expires_at: Micros | None, life: Life
    ) -> None:
        self.spec = spec
        self.seq = seq
        self.created_at = created_at
        self.due_at = due_at
        self.expires_at = expires_at
        self.life = life
        self.place: Entry | None = None
        self.expiry: Entry | None = None
        self.prune: Entry | None = None
        self.result: Entry | None = None

    def job(self) -> Job:
        return Job(self.spec, self.seq, self.created_at, self.due_at, self.expires_at, self.life)


class Line:
    """One queue: its unstarted jobs in order, and how many jobs it has in each state."""

    __slots__ = ("aside", "aside_at", "counts", "fragile", "plain", "scheduled")

    def __init__(self, scheduled: Order) -> None:
        self.counts: dict[State, int] = {}
        self.scheduled = scheduled
        self.plain: Lanes = {}
        self.fragile: Lanes = {}
        self.aside: dict[int, Row] = {}  # ready jobs that a claim met expired
        self.aside_at: Micros = 0  # when the last of them was; an earlier clock brings them back

    def lanes(self, row: Row) -> Lanes:
        return self.fragile if fragile(row.spec, row.life.lost_count) else self.plain

    def close(self, lanes: Lanes, task: str, priority: int) -> None:
        """Remove an order that holds nothing any more."""
        orders = lanes[task]
        del orders[priority]
        if not orders:
            del lanes[task]

    def orders(self) -> list[Order]:
        """Those of its ready jobs."""
        return [order for lanes in (self.plain, self.fragile) for orders in lanes.values() for order in orders.values()]


class Table:
    """All rows and indexes. `jobs_max` bounds the rows, `aging_us` is what one step of priority is worth."""

    def __init__(
        self, aging_us: Micros | None = None, jobs_max: int = 1_000_000, payload_bytes_max: int = PAYLOAD_BYTES_MAX
    ) -> None:
        self.aging_us = aging_us
        self.jobs_max = jobs_max
        self.payload_bytes_max = payload_bytes_max
        self.floor: Micros = 0
        self.seq = 0
        self.rows: dict[int, Row] = {}  # ascending by seq, since rows only ever join at the end
        self.ids: dict[JobId, Row] = {}
        self.lines: dict[str, Line] = {}
        self.paused: set[str] = set()
        self.keys: dict[str, JobId] = {}
        self.claims: dict[str, dict[JobId, Row]] = {}
        self.cancels: dict[str, dict[JobId, Row]] = {}
        self.leases = Order(self._in_place)
        self.expiries = Order(lambda entry: (row := self.rows.get(entry[1])) is not None and row.expiry is entry)
        self.results = Order(lambda entry: (row := self.rows.get(entry[1])) is not None and row.result is entry)
        self.prunes = Order(lambda entry: (row := self.rows.get(entry[1])) is not None and row.prune is entry)
        self.finished = {state: Order(self._in_place) for state in State if state in TERMINAL}

    def _in_place(self, entry: Entry) -> bool:
        row = self.rows.get(entry[1])
        return row is not None and row.place is entry

    # --- the ways in which rows change ---

    def add(self, spec: Spec, life: Life, expires_at: Micros | None, now: Micros) -> None:
        """A new row; it takes its unique key, from whoever had it."""
        self._join(Row(spec, self.seq + 1, now, life.run_at, expires_at, life), now)

    def restore(self, job: Job, now: Micros) -> None:
        """A job of another store as a new row; it takes its unique key where it is in scope, as a new job does."""
        self._join(Row(job.spec, self.seq + 1, job.created_at, job.due_at, job.expires_at, job.life), now)

    def _join(self, row: Row, now: Micros) -> None:
        spec, seq, state = row.spec, row.seq, row.life.state
        self.seq = seq
        self.rows[seq] = row
        self.ids[spec.id] = row
        self._count(spec.queue, state)
        self._enter(row, state)
        if spec.unique is not None and holds_key(row, now):
            self.keys[spec.unique.key] = spec.id

    def remove(self, row: Row) -> None:
        self._leave(row, row.life.state)
        del self.rows[row.seq]
        del self.ids[row.spec.id]
        self._uncount(row.spec.queue, row.life.state)
        self._free_key(row)

    def step(self, row: Row, life: Life, now: Micros) -> None:
        """The row takes one step of its life; a unique key whose scope it leaves is free at once."""
        before, after = row.life.state, life.state
        if before is after is _RUNNING:
            self._hold_on(row, life)
            return
        self._leave(row, before)
        if before is not after:
            counts = self.lines[row.spec.queue].counts
            counts[after] = counts.get(after, 0) + 1
            counts[before] -= 1
            if not counts[before]:
                del counts[before]
        row.life = life
        self._enter(row, after)
        if row.spec.unique is not None and not holds_key(row, now):
            self._free_key(row)

    def edit(self, row: Row, job: Job, now: Micros) -> None:
        """The row becomes this job: an operator's retry, an update, a replacement."""
        self._leave(row, row.life.state)
        self._count(job.spec.queue, job.life.state)
        self._uncount(row.spec.queue, row.life.state)
        self._free_key(row)
        row.spec, row.due_at, row.expires_at, row.life = job.spec, job.due_at, job.expires_at, job.life
        self._enter(row, job.life.state)
        if row.spec.unique is not None and holds_key(row, now) and self.holder(row.spec.unique.key, now) is None:
            self.keys[row.spec.unique.key] = row.spec.id

    def set_aside(self, line: Line, row: Row, now: Micros) -> None:
        """A ready row that a claim met expired, already taken off its order."""
        row.place = None
        line.aside[row.seq] = row
        line.aside_at = max(line.aside_at, now)

    def take_back(self, line: Line) -> None:
        """Return to their orders the rows that were set aside."""
        for row in line.aside.values():
            row.place = self._ready_order(line, row).push(row.life.run_at, row.seq)
        line.aside.clear()
        line.aside_at = 0

    # --- entering and leaving the indexes ---

    def _enter(self, row: Row, state: State) -> None:
        if state is _RUNNING:
            self._enter_running(row)
        elif state is _READY:
            line = self.lines[row.spec.queue]
            row.place = self._ready_order(line, row).push(row.life.run_at, row.seq)
        elif state is _SCHEDULED:
            row.place = self.lines[row.spec.queue].scheduled.push(row.life.run_at, row.seq)
        else:
            self._enter_finished(row)
            return
        if row.expires_at is not None and state is not _RUNNING:
            row.expiry = self.expiries.push(row.expires_at, row.seq)

    def _hold_on(self, row: Row, life: Life) -> None:
        """It runs on, with another lease, progress or request to stop; it keeps its turn under its claim."""
        was, hold = row.life.hold, life.hold
        assert was is not None
        assert hold is not None
        row.life = life
        if hold.lease_until != was.lease_until:
            row.place = self.leases.push(hold.lease_until, row.seq)
            self.leases.forget()
        if hold.cancel is not None and was.cancel is None:
            self.cancels.setdefault(hold.member, {})[row.spec.id] = row

    def _enter_running(self, row: Row) -> None:
        hold = row.life.hold
        assert hold is not None
        row.place = self.leases.push(hold.lease_until, row.seq)
        self.claims.setdefault(hold.claim_id, {})[row.spec.id] = row
        if hold.cancel is not None:
            self.cancels.setdefault(hold.member, {})[row.spec.id] = row

    def _enter_finished(self, row: Row) -> None:
        life, seq = row.life, row.seq
        end = life.end
        assert end is not None
        row.place = self.finished[life.state].push(end.finished_at, seq)
        if end.result is not None:
            row.result = self.results.push(end.finished_at + row.spec.result_ttl_us, seq)
        at = prune_at(row)
        assert at is not None
        row.prune = self.prunes.push(at, seq)

    def _leave(self, row: Row, state: State) -> None:
        """Out of every index that its state put it in."""
        if state is _RUNNING:
            self._leave_running(row)
            return
        if state is _READY:
            self._leave_ready(row)
        elif state is _SCHEDULED:
            row.place = None
            self.lines[row.spec.queue].scheduled.forget()
        else:
            self._leave_finished(row, state)
        if row.expiry is not None:
            row.expiry = None
            self.expiries.forget()

    def _leave_finished(self, row: Row, state: State) -> None:
        row.place = None
        self.finished[state].forget()
        row.prune = None
        self.prunes.forget()
        if row.result is not None:
            row.result = None
            self.results.forget()

    def _leave_ready(self, row: Row) -> None:
        line = self.lines[row.spec.queue]
        if row.place is None:
            del line.aside[row.seq]
            return
        lanes = line.lanes(row)
        order = lanes[row.spec.task][row.spec.priority]
        row.place = None
        order.forget()
        if not order.live:
            line.close(lanes, row.spec.task, row.spec.priority)

    def _leave_running(self, row: Row) -> None:
        hold = row.life.hold
        assert hold is not None
        row.place = None
        self.leases.forget()
        claim = self.claims[hold.claim_id]
        del claim[row.spec.id]
        if not claim:
            del self.claims[hold.claim_id]
        if hold.cancel is not None:
            asked = self.cancels[hold.member]
            del asked[row.spec.id]
            if not asked:
                del self.cancels[hold.member]

    def start(self, line: Line, row: Row, life: Life, now: Micros) -> None:
        """A claim: the row was popped off its ready order by the caller, which saves looking for it again."""
        counts = line.counts
        counts[_READY] -= 1
        if not counts[_READY]:
            del counts[_READY]
        counts[_RUNNING] = counts.get(_RUNNING, 0) + 1
        row.life = life
        if row.expiry is not None:
            row.expiry = None
            self.expiries.forget()
        self._enter_running(row)
        if row.spec.unique is not None and not holds_key(row, now):
            self._free_key(row)

    # --- lines, counts, keys ---

    def _ready_order(self, line: Line, row: Row) -> Order:
        spec = row.spec
        lanes = line.fragile if row.life.lost_count and fragile(spec, row.life.lost_count) else line.plain
        orders = lanes.get(spec.task)
        if orders is None:
            orders = lanes[spec.task] = {}
        order = orders.get(spec.priority)
        if order is None:
            order = orders[spec.priority] = Order(self._in_place)
        return order

    def _count(self, queue: str, state: State) -> None:
        line = self.lines.get(queue)
        if line is None:
            line = self.lines[queue] = Line(Order(self._in_place))
        line.counts[state] = line.counts.get(state, 0) + 1

    def _uncount(self, queue: str, state: State) -> None:
        counts = self.lines[queue].counts
        counts[state] -= 1
        if not counts[state]:
            del counts[state]
            if not counts:
                del self.lines[queue]

    def _free_key(self, row: Row) -> None:
        unique = row.spec.unique
        if unique is not None and self.keys.get(unique.key) == row.spec.id:
            del self.keys[unique.key]

    def holder(self, key: str, now: Micros) -> Row | None:
        """The row that keeps others with this key out."""
        id = self.keys.get(key)
        if id is None:
            return None
        row = self.ids[id]
        return row if holds_key(row, now) else None
