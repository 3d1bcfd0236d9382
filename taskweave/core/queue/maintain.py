"""Maintenance: promote, reap, expire, drop results, prune, in this order and each at most `limit` rows.

Everything is taken from an order by its instant, so that nothing is read that is not due. Maintenance alone writes
the floor below which the clock of the store never runs. When the clock has jumped since the last one, every running
job gets its lease anew before anything is reaped (`life.jumped`).
"""

from __future__ import annotations

from taskweave.core import life as lives
from taskweave.core.ids import Micros
from taskweave.core.queue.exchange import next_due, promote
from taskweave.core.queue.order import Order
from taskweave.core.queue.table import Row, Table
from taskweave.core.verbs import Maintain, Maintained


def maintain(table: Table, op: Maintain, now: Micros) -> Maintained:
    if lives.jumped(table.floor, now, op.lease_us):
        _lease_again(table, now + op.lease_us, now)
    table.floor = lives.floored(table.floor, now)
    promoted = promote(table, table.lines.values(), now, op.limit)
    reaped = expired = dropped = pruned = 0
    while reaped < op.limit and (row := _due(table, table.leases, now)) is not None:
        life = lives.reap(row, now)
        assert life is not None
        table.step(row, life, now)
        reaped += 1
    while expired < op.limit and (row := _due(table, table.expiries, now)) is not None:
        life = lives.expire(row, now)
        assert life is not None
        table.step(row, life, now)
        expired += 1
    while dropped < op.limit and (row := _due(table, table.results, now)) is not None:
        life = lives.drop_result(row, now)
        assert life is not None
        table.step(row, life, now)
        dropped += 1
    while pruned < op.limit and (row := _due(table, table.prunes, now)) is not None:
        table.remove(row)
        pruned += 1
    more = op.limit in (promoted, reaped, expired, dropped, pruned)
    due = next_due(table, (queue for queue in table.lines if queue not in table.paused))
    return Maintained(now, promoted, reaped, expired, dropped, pruned, 0, more, due)


def _due(table: Table, order: Order, now: Micros) -> Row | None:
    head = order.head()
    return None if head is None or head[0] > now else table.rows[head[1]]


def _lease_again(table: Table, until: Micros, now: Micros) -> None:
    """No lease ends before `until`; as many rows as run, not as wait."""
    for row in [row for claim in table.claims.values() for row in claim.values()]:
        if row.life.hold is not None and row.life.hold.lease_until < until:
            table.step(row, lives.leased(row.life, until), now)
