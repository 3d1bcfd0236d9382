"""What is wrong with a job's row, for `store check`: invariant I26, whatever the dialect.

Each job has exactly the columns that its state calls for, and every derived column is what the core derives from the
rest. A dialect hands over the columns of a whole job (`rows.row_of`) and after them DERIVED, in this order.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from taskweave.core.job import State
from taskweave.core.life import fragile, holds_key
from taskweave.core.ready import rank
from taskweave.stores._server.rows import NUMBER, Record, Row, chores, row_of, window_of
from taskweave.stores._server.turn import Turn

PROBLEMS_MAX: Final = 100
WHOLE: Final = 26  # the columns of a whole job
DERIVED: Final = (
    *("fragile", "rank_a", "rank_b", "aside", "cancel", "claim", "lease_until", "finished_at", "ttl_us", "keep_us"),
    *("window_until", "id of the row that has the unique key of this one's spec", "chore", "chore_at", "prune_at"),
)


def problems_of(turn: Turn, record: Record) -> Iterator[str]:
    """What is wrong with the job of this record, a sentence each."""
    try:
        row = row_of(record[:WHOLE])
    except (ValueError, TypeError, KeyError, IndexError) as error:
        yield f"job {record[2]} cannot be read: {type(error).__name__}: {error}"
        return
    yield from (f"job {row.spec.id} ({row.life.state}): {lie}" for lie in _lies(turn, row, record[WHOLE:]))


def _lies(turn: Turn, row: Row, columns: Record) -> Iterator[str]:
    """What of one row's columns does not follow from what the core knows about it."""
    is_fragile, rank_a, rank_b, aside, cancel, claim, lease_until, finished_at, ttl, keep, window, holder, *chore = (
        columns
    )
    life, spec = row.life, row.spec
    running, finished = life.state is State.RUNNING, NUMBER[life.state] > NUMBER[State.RUNNING]
    if running != (lease_until is not None) or running != (claim is not None):
        yield "a lease belongs to running jobs, and to each of them"
    if finished != (finished_at is not None):
        yield "an end belongs to finished jobs, and to each of them"
    if aside and (life.state is not State.READY or row.expires_at is None):
        yield "only an expired ready job may be set aside"
    if cancel is not None and not running:
        yield "only a running job can be asked to stop"
    if bool(is_fragile) != fragile(spec, life.lost_count):
        yield "the mark of a fragile job is wrong"
    unstarted = not running and not finished
    if unstarted and turn.rerank_after is None and (rank_a, rank_b) != rank(spec.priority, life.run_at, turn.aging_us):
        yield "its rank does not follow from its priority and due time"
    if (ttl, keep, window) != (spec.result_ttl_us, spec.retention_us, window_of(spec, row.created_at)):
        yield "its spans do not follow from its spec"
    if tuple(chore) != chores(row):
        yield "its next chore does not follow from its end and its retention"
    if row.key is not None and (spec.unique is None or spec.unique.key != row.key):
        yield f"it holds the key {row.key!r}, which is not its own"
    if row.key is None and holder is None and holds_key(row, turn.now):
        yield "it should hold its unique key, which nobody does"
