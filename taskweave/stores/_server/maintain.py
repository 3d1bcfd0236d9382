"""Maintenance: promote, reap, expire, drop results, prune, each at most `limit` rows, in one transaction.

Everything is found by an index on its instant; rows that another transaction works on are left for the next time
(SKIP LOCKED), so two who maintain at once do not wait for each other. A maintenance that finds nothing writes nothing,
but for the floor of store time, which moves in steps (core.life.floored). Besides, two things that only a table has
are kept here: the ranks after a change of the aging setting are rewritten, and claims under which nothing runs any
more are removed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Final

from taskweave.core import life as lives
from taskweave.core.ids import Micros
from taskweave.core.job import Life
from taskweave.core.ready import rank
from taskweave.core.verbs import Maintain, Maintained
from taskweave.stores._server.exchange import next_due, paused_queues, promote
from taskweave.stores._server.rows import DROP, Row
from taskweave.stores._server.turn import Turn
from taskweave.stores.documents import REST_FIELDS, spec_rest

_PRIORITY: Final = REST_FIELDS.index("priority")


async def maintain(turn: Turn, op: Maintain) -> Maintained:
    now, limit, link = turn.now, op.limit, turn.link
    if lives.jumped(turn.floor, now, op.lease_us):
        await link.write("job_lease_again", now + op.lease_us)
    floor = lives.floored(turn.floor, now)
    if floor != turn.floor:
        await link.write("meta_floor", floor)
    queues = await scheduled_queues(turn)
    promoted = await promote(turn, queues, limit) if queues else 0
    reaped = await _step(turn, [seq for (seq,) in await link.fetch("lapsed", now, limit)], lives.reap)
    expired = await _step(turn, [seq for (seq,) in await link.fetch("expired", now, limit)], lives.expire)
    dropped = await _step(turn, [seq for (seq,) in await link.fetch("chores", DROP, now, limit)], lives.drop_result)
    pruned = await _prune(turn, limit, backlog=dropped == limit)
    reranked, unranked = await _rerank(turn, limit)
    more = limit in (promoted, reaped, expired, dropped, pruned) or unranked
    await _sweep_claims(turn, limit)
    due = await next_due(turn, await scheduled_queues(turn), await paused_queues(turn))
    return Maintained(now, promoted, reaped, expired, dropped, pruned, reranked, more, due)


async def scheduled_queues(turn: Turn) -> list[str]:
    """The queues with scheduled jobs."""
    return [queue for (queue,) in await turn.link.fetch("due_queues")]


async def _step(turn: Turn, seqs: Sequence[int], step: Callable[[Row, Micros], Life | None]) -> int:
    """Take this step of core.life with each row; returns how many there were."""
    rows = await turn.rows_by_seq(seqs)
    for row in rows.values():
        life = step(row, turn.now)
        assert life is not None  # the row was locked when it was found
        row.life = life
    await turn.save([rows[seq] for seq in seqs])
    return len(seqs)


async def _prune(turn: Turn, limit: int, backlog: bool) -> int:
    """Remove what is past its retention, by (prune_at, seq); rows whose result waits to be dropped included."""
    due: list[tuple[Micros, int]] = [(at, seq) for at, seq in await turn.link.fetch("prunes", turn.now, limit)]
    if backlog:
        due += [(at, seq) for at, seq in await turn.link.fetch("late_prunes", turn.now, limit)]
        due.sort()
    seqs = [seq for _, seq in due[:limit]]
    await turn.remove(seqs)
    return len(seqs)


async def _rerank(turn: Turn, limit: int) -> tuple[int, bool]:
    """Rewrite the ranks of the next rows after a change of the aging setting: how many, and whether more are left."""
    if turn.rerank_after is None:
        return 0, False
    found = await turn.link.fetch("rerank", turn.rerank_after, limit)
    records = [(*rank(spec_rest(rest)[_PRIORITY], run_at, turn.aging_us), seq) for seq, rest, run_at in found]
    if records:
        await turn.link.many("job_rank", records)
    full = len(found) == limit
    await turn.link.write("meta_rerank", found[-1][0] if full else None)
    return len(found), full


async def _sweep_claims(turn: Turn, limit: int) -> None:
    """Remove claims under which nothing runs any more; look at the others again when their last lease ends."""
    for number, seqs, until in await turn.link.fetch("claims_over", turn.now, limit):
        ((last,),) = await turn.link.fetch("claim_leases", json.loads(seqs), number)
        if last is None:
            await turn.link.write("claim_delete", number)
        elif last > until:
            await turn.link.write("claim_until", last, number)
