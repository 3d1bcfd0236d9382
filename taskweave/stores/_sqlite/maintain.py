"""Maintenance: promote, reap, expire, drop results, prune, each at most `limit` rows, in one transaction.

Everything is found by an index on its instant. A maintenance that finds nothing writes nothing, but for the floor
of store time, which moves in steps (core.life.floored). Besides, two things that only a table has are kept here: the
ranks after a change of the aging setting are rewritten, and claims under which nothing runs any more are removed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from taskweave.core import life as lives
from taskweave.core.ids import Micros
from taskweave.core.job import Life
from taskweave.core.ready import rank
from taskweave.core.verbs import Maintain, Maintained
from taskweave.stores._sqlite.exchange import next_due, promote
from taskweave.stores._sqlite.rows import DROP, Row
from taskweave.stores._sqlite.statements import statement
from taskweave.stores._sqlite.turn import Turn
from taskweave.stores.documents import REST_FIELDS, spec_rest

_FLOOR: Final = statement("meta_floor")
_RERANKED: Final = statement("meta_rerank")
_DUE_QUEUES: Final = statement("due_queues")
_PAUSED: Final = statement("paused")
_LEASE_AGAIN: Final = statement("job_lease_again")
_LAPSED: Final = statement("lapsed")
_EXPIRED: Final = statement("expired")
_CHORES: Final = statement("chores")
_PRUNES: Final = statement("prunes")
_LATE_PRUNES: Final = statement("late_prunes")
_RERANK: Final = statement("rerank")
_RANK: Final = statement("job_rank")
_CLAIMS_OVER: Final = statement("claims_over")
_CLAIM_LEASES: Final = statement("claim_leases")
_CLAIM_UNTIL: Final = statement("claim_until")
_CLAIM_DELETE: Final = statement("claim_delete")

_PRIORITY: Final = REST_FIELDS.index("priority")


def maintain(turn: Turn, op: Maintain) -> Maintained:
    now, limit = turn.now, op.limit
    if lives.jumped(turn.floor, now, op.lease_us):
        turn.run(_LEASE_AGAIN, (now + op.lease_us, now + op.lease_us))
    floor = lives.floored(turn.floor, now)
    if floor != turn.floor:
        turn.run(_FLOOR, (floor,))
    promoted = promote(turn, due_queues(turn), limit)
    reaped = _step(turn, turn.run(_LAPSED, (now, limit)).fetchall(), lives.reap)
    expired = _step(turn, turn.run(_EXPIRED, (now, limit)).fetchall(), lives.expire)
    dropped = _step(turn, turn.run(_CHORES, (DROP, now, limit)).fetchall(), lives.drop_result)
    pruned = _prune(turn, limit, backlog=dropped == limit)
    reranked, unranked = _rerank(turn, limit)
    more = limit in (promoted, reaped, expired, dropped, pruned) or unranked
    _sweep_claims(turn, limit)
    paused = {queue for (queue,) in turn.run(_PAUSED).fetchall()}
    due = next_due(turn, due_queues(turn), paused)
    return Maintained(now, promoted, reaped, expired, dropped, pruned, reranked, more, due)


def due_queues(turn: Turn) -> list[str]:
    """The queues with scheduled jobs, found by leaping along the index."""
    queues: list[str] = []
    queue = ""
    while (found := turn.run(_DUE_QUEUES, (queue,)).fetchone()) is not None:
        queue = found[0]
        queues.append(queue)
    return queues


def _step(turn: Turn, found: Sequence[tuple[int]], step: Callable[[Row, Micros], Life | None]) -> int:
    """Take this step of core.life with each row; returns how many there were."""
    if not found:
        return 0
    rows = turn.rows_by_seq([seq for (seq,) in found])
    for (seq,) in found:
        row = rows[seq]
        life = step(row, turn.now)
        assert life is not None
        row.life = life
        turn.save(row)
    return len(found)


def _prune(turn: Turn, limit: int, backlog: bool) -> int:
    """Remove what is past its retention, by (prune_at, seq); rows whose result waits to be dropped included."""
    due: list[tuple[Micros, int]] = turn.run(_PRUNES, (turn.now, limit)).fetchall()
    if backlog:
        due += turn.run(_LATE_PRUNES, (turn.now, turn.now, limit)).fetchall()
        due.sort()
    seqs = [seq for _, seq in due[:limit]]
    turn.remove(seqs)
    return len(seqs)


def _rerank(turn: Turn, limit: int) -> tuple[int, bool]:
    """Rewrite the ranks of the next rows after a change of the aging setting: how many, and whether more are left."""
    if turn.rerank_after is None:
        return 0, False
    found: list[tuple[Any, ...]] = turn.run(_RERANK, (turn.rerank_after, limit)).fetchall()
    records = [(*rank(spec_rest(rest)[_PRIORITY], run_at, turn.aging_us), seq) for seq, rest, run_at in found]
    turn.cursor.executemany(_RANK, records)
    full = len(found) == limit
    turn.run(_RERANKED, (found[-1][0] if full else None,))
    return len(found), full


def _sweep_claims(turn: Turn, limit: int) -> None:
    """Remove claims under which nothing runs any more; look at the others again when their last lease ends."""
    for number, seqs, until in turn.run(_CLAIMS_OVER, (turn.now, limit)).fetchall():
        (last,) = turn.run(_CLAIM_LEASES, (seqs, number)).fetchone()
        if last is None:
            turn.run(_CLAIM_DELETE, (number,))
        elif last > until:
            turn.run(_CLAIM_UNTIL, (last, number))
