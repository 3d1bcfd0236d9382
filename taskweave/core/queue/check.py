"""Conservation (I26): each job is in exactly one state and in exactly the matching indexes.

Everything is computed again from the rows alone and compared; slow, for tests and for `store check`.
"""

from __future__ import annotations

from collections import Counter

from taskweave.core.job import TERMINAL, UNSTARTED, State
from taskweave.core.life import drop_at, holds_key, prune_at
from taskweave.core.queue.order import Entry, Order
from taskweave.core.queue.table import Line, Row, Table


def check(table: Table) -> None:
    """Raises AssertionError."""
    assert len(table.rows) <= table.jobs_max, "more rows than the bound"
    assert list(table.rows) == sorted(table.rows), "rows are not ascending by seq"
    assert table.ids == {row.spec.id: row for row in table.rows.values()}, "ids differ from the rows"
    for row in table.rows.values():
        _check_life(row)
    _check_lines(table)
    _check_running(table)
    rows = table.rows.values()
    finished = [row for row in rows if row.life.state in TERMINAL]
    for state, order in table.finished.items():
        _same(order, [(_end(row), row.seq) for row in finished if row.life.state is state], state)
    unstarted = [row for row in rows if row.life.state in UNSTARTED]
    _same(table.expiries, [(row.expires_at, row.seq) for row in unstarted if row.expires_at is not None], "expiries")
    _same(table.prunes, [(at, row.seq) for row in finished if (at := prune_at(row)) is not None], "prunes")
    _same(table.results, [(at, row.seq) for row in finished if (at := drop_at(row)) is not None], "results")
    _check_keys(table)


def _check_life(row: Row) -> None:
    """What a life holds is what its state calls for."""
    life, name = row.life, f"job {row.spec.id} ({row.life.state})"
    assert (life.hold is not None) == (life.state is State.RUNNING), f"{name}: a hold exists exactly while it runs"
    assert (life.end is not None) == (life.state in TERMINAL), f"{name}: an end exists exactly when it has finished"
    assert 0 <= life.attempt <= row.spec.max_attempts, f"{name}: attempt {life.attempt} is beyond its budget"
    assert life.state is not State.LOST or row.spec.at_most_once, f"{name}: only at-most-once jobs are lost"
    assert row.place is not None or life.state is State.READY, f"{name}: it is in no place"


def _end(row: Row) -> int:
    assert row.life.end is not None
    return row.life.end.finished_at


def _same(order: Order, expected: list[Entry], name: object) -> None:
    found = sorted(order)
    assert found == sorted(expected), f"{name}: the order has {found}, the rows say {sorted(expected)}"
    assert order.live == len(expected), f"{name}: {order.live} counted, {len(expected)} there"
    assert len(order) <= 2 * order.live + 64, f"{name}: {len(order)} entries for {order.live} rows"
    assert order.head() == min(expected, default=None), f"{name}: its head is not the smallest"


def _check_lines(table: Table) -> None:
    by_queue: dict[str, list[Row]] = {}
    for row in table.rows.values():
        by_queue.setdefault(row.spec.queue, []).append(row)
    assert table.lines.keys() == by_queue.keys(), "there are lines without jobs, or jobs without a line"
    for queue, line in table.lines.items():
        rows = by_queue[queue]
        assert line.counts == Counter(row.life.state for row in rows), f"queue {queue}: {line.counts} miscounts"
        scheduled = [(row.life.run_at, row.seq) for row in rows if row.life.state is State.SCHEDULED]
        _same(line.scheduled, scheduled, f"queue {queue}, scheduled")
        _check_ready(line, [row for row in rows if row.life.state is State.READY], queue)


def _check_ready(line: Line, ready: list[Row], queue: str) -> None:
    aside = {row.seq for row in ready if row.place is None}
    assert line.aside.keys() == aside, f"queue {queue}: set aside are {sorted(line.aside)}, should be {sorted(aside)}"
    expected: dict[tuple[bool, str, int], list[Entry]] = {}
    for row in ready:
        if row.seq not in aside:
            lane = (line.lanes(row) is line.fragile, row.spec.task, row.spec.priority)
            expected.setdefault(lane, []).append((row.life.run_at, row.seq))
    orders = {
        (lanes is line.fragile, task, priority): order
        for lanes in (line.plain, line.fragile)
        for task, by_priority in lanes.items()
        for priority, order in by_priority.items()
    }
    assert orders.keys() == expected.keys(), f"queue {queue}: ready orders {list(orders)} for {list(expected)}"
    for lane, order in orders.items():
        _same(order, expected[lane], f"queue {queue}, ready {lane}")


def _check_running(table: Table) -> None:
    held = [(row, row.life.hold) for row in table.rows.values() if row.life.hold is not None]
    _same(table.leases, [(hold.lease_until, row.seq) for row, hold in held], "leases")
    claims: dict[str, dict[str, Row]] = {}
    cancels: dict[str, dict[str, Row]] = {}
    for row, hold in held:
        claims.setdefault(hold.claim_id, {})[row.spec.id] = row
        if hold.cancel is not None:
            cancels.setdefault(hold.member, {})[row.spec.id] = row
    assert table.claims == claims, "claims differ from the running rows"
    assert table.cancels == cancels, "cancel requests differ from the running rows"


def _check_keys(table: Table) -> None:
    """A key points to a live row with that key; a job that holds its key whatever the time is pointed to."""
    for key, id in table.keys.items():
        row = table.ids.get(id)
        assert row is not None, f"key {key}: its holder {id} is gone"
        assert row.spec.unique is not None, f"key {key}: its holder {id} has none"
        assert row.spec.unique.key == key, f"key {key}: its holder {id} has another"
    for row in table.rows.values():
        unique = row.spec.unique
        if unique is not None and unique.within_us is None:
            holds = table.keys.get(unique.key) == row.spec.id
            assert holds == holds_key(row, 0), f"job {row.spec.id}: key {unique.key} held: {holds}"
