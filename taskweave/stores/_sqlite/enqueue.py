"""Enqueue: all or nothing, once for each id, at most one live job for each unique key.

Jobs without a unique key whose ids are new, nearly all, are inserted without looking: what depends on the spec alone
is decided once for each kind of spec in a batch (`_Kind`), and the index on the ids finds a repeat. Only then, or
when there are keys, is the batch planned job by job, as the queue machine does it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, Final

from taskweave.core.bounds import check_batch
from taskweave.core.ids import JobId, Micros
from taskweave.core.job import Spec, State
from taskweave.core.life import first, fragile, holds_key, replaced
from taskweave.core.ready import rank
from taskweave.core.verbs import Enqueue, Enqueued, How
from taskweave.exceptions import StoreFull, UniqueConflict
from taskweave.stores._sqlite.rows import NUMBER, Record, Row
from taskweave.stores._sqlite.statements import statement
from taskweave.stores._sqlite.turn import Turn, listed
from taskweave.stores.documents import SpecRest, rest_of, spec_text

_INSERT: Final = statement("job_insert")
_ADDED: Final = statement("meta_added")
_FREE_KEY: Final = statement("job_free_key")
_KNOWN: Final = statement("job_ids_known")
_ENDED: Final = statement("ended")

_SAVEPOINT: Final = "SAVEPOINT plain"
_ROLLBACK: Final = "ROLLBACK TO plain"
_RELEASE: Final = "RELEASE plain"

_EVICTED_FIRST: Final = (State.SUCCEEDED, State.CANCELLED, State.EXPIRED)
_FOREVER: Final = 1 << 62


def enqueue(turn: Turn, op: Enqueue) -> tuple[Enqueued, ...]:
    """One answer for each spec. Raises InvalidInput, UniqueConflict or StoreFull; then nothing was stored."""
    check_batch(op.specs, turn.settings.payload_bytes_max)
    if turn.settings.jobs_max is None and not any(spec.unique is not None for spec in op.specs):
        turn.run(_SAVEPOINT)
        try:
            add(turn, op.specs)
        except sqlite3.IntegrityError:  # an id is there already; other errors end the whole transaction
            turn.run(_ROLLBACK)
            turn.run(_RELEASE)
        else:
            turn.run(_RELEASE)
            return tuple([Enqueued(spec.id) for spec in op.specs])
    return _planned(turn, op.specs)


def add(turn: Turn, specs: Sequence[Spec]) -> None:
    """Insert these as new jobs. Raises sqlite3.IntegrityError for an id or a unique key that is there."""
    if not specs:
        return
    now, seq = turn.now, turn.next_seq
    kinds: dict[SpecRest, tuple[Any, ...]] = {}
    records: list[Record] = []
    append, kind_of = records.append, kinds.get
    for spec in specs:
        rest = rest_of(spec)
        kind = kind_of(rest)
        if kind is None:
            kind = kinds[rest] = _kind(spec, rest, now, turn.aging_us)
        state, is_fragile, rank_a, rank_b, run_at, text, expires_at, key = kind
        append((
            seq, state, spec.id, spec.queue, spec.task, is_fragile, rank_a, rank_b, run_at, text, now, run_at,
            expires_at, key, spec.payload,
        ))  # fmt: skip
        seq += 1
    turn.cursor.executemany(_INSERT, records)
    turn.run(_ADDED, (seq, len(records)))
    turn.next_seq = seq
    turn.jobs += len(records)


def _kind(spec: Spec, rest: SpecRest, now: Micros, aging_us: Micros | None) -> tuple[Any, ...]:
    """All that a new row has but its seq, id, queue, task and payload: it depends on the rest of the spec alone."""
    life, expires_at = first(spec, now)
    key = None
    if spec.unique is not None and holds_key(Row(spec, 0, now, life.run_at, expires_at, life), now):
        key = spec.unique.key
    is_fragile = fragile(spec, life.lost_count)
    return (
        NUMBER[life.state],
        is_fragile,
        *rank(spec.priority, life.run_at, aging_us),
        life.run_at,
        spec_text(rest),
        expires_at,
        key,
    )


def spawn(turn: Turn, specs: Sequence[Spec]) -> None:
    """Add the jobs of a settlement: a taken id or unique key means that the job is there already."""
    known = known_ids(turn, [spec.id for spec in specs])
    for spec in specs:
        if spec.id in known or (spec.unique is not None and turn.holder(spec.unique.key) is not None):
            continue
        _add_fresh(turn, [spec])


def _add_fresh(turn: Turn, specs: Sequence[Spec]) -> None:
    for spec in specs:
        if spec.unique is not None:
            turn.run(_FREE_KEY, (spec.unique.key,))  # a lapsed window is taken over
    add(turn, specs)


def known_ids(turn: Turn, ids: Iterable[JobId]) -> set[JobId]:
    return {id for (id,) in turn.run(_KNOWN, (listed(ids),)).fetchall()}


# --- a batch that needs a plan ------------------------------------------------------------------------------------


def _planned(turn: Turn, specs: Sequence[Spec]) -> tuple[Enqueued, ...]:
    plan = _Plan(turn, known_ids(turn, [spec.id for spec in specs]))
    answers = tuple([plan.take(spec) for spec in specs])
    make_room(turn, len(plan.fresh))
    for row in plan.replacements:
        turn.edit(row)
    _add_fresh(turn, plan.fresh)
    return answers


class _Plan:
    """What a batch would do, written nowhere yet."""

    def __init__(self, turn: Turn, known: set[JobId]) -> None:
        self.turn = turn
        self.known = known
        self.fresh: list[Spec] = []
        self.replacements: list[Row] = []
        self.taken: dict[str, JobId] = {}  # unique keys that this batch takes, with who has them then

    def take(self, spec: Spec) -> Enqueued:
        if spec.id in self.known:
            return Enqueued(spec.id, How.EXISTING)
        if spec.unique is None:
            self.fresh.append(spec)
            return Enqueued(spec.id)
        return self._take_unique(spec, spec.unique.key, spec.unique.on_conflict)

    def _take_unique(self, spec: Spec, key: str, on_conflict: str) -> Enqueued:
        holder = self.taken.get(key)
        row = None
        if holder is None:
            row = self.turn.holder(key)
            if row is None:
                self.fresh.append(spec)
                self.taken[key] = spec.id
                return Enqueued(spec.id)
            holder = row.spec.id
        if on_conflict == "raise":
            raise UniqueConflict(key, holder)
        if on_conflict == "replace" and row is not None:
            job = replaced(row.job(), spec, self.turn.now)
            if job is not None:
                become(row, job)
                self.replacements.append(row)
                self.taken[key] = holder
                return Enqueued(holder, How.REPLACED)
        return Enqueued(holder, How.EXISTING)


def become(row: Row, job: Any) -> None:
    """The row takes over what an edit may change."""
    row.spec, row.due_at, row.expires_at, row.life = job.spec, job.due_at, job.expires_at, job.life


# --- a bounded store ----------------------------------------------------------------------------------------------


def make_room(turn: Turn, needed: int) -> None:
    """See that `needed` more rows fit, evicting the oldest finished ones. Raises StoreFull."""
    bound = turn.settings.jobs_max
    missing = 0 if bound is None else turn.jobs + needed - bound
    if missing <= 0:
        return
    victims: list[int] = []
    for state in _EVICTED_FIRST:
        cursor = turn.ordered(_ENDED, (NUMBER[state], _FOREVER))
        for _, seq, key in cursor:
            if key is None or not holds_key(turn.rows_by_seq((seq,))[seq], turn.now):
                victims.append(seq)
                if len(victims) == missing:
                    break
        cursor.close()
        if len(victims) == missing:
            turn.remove(victims)
            return
    problem = f"it holds {turn.jobs:,} jobs, {needed:,} more would pass the bound of {bound:,}"
    raise StoreFull(turn.settings.url, problem)
