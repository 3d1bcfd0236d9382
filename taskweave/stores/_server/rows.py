"""A job as a row of a SQL server and as a value of the core, both ways.

What is stored is what `core.life` decided. Besides, a row has the columns that indexes need (rank, fragile, chore) and
those from which the end of a plain success follows without reading its spec: `ttl_us`, `keep_us`, `window_until`. So
that settlement is a short update of a few columns, in a function of the server too.

What a worker says while it runs (`progress`, `cancel`) has columns of its own, so that the end of a run need not
rewrite the document of its life. They are JSON texts, because JSON escapes carry what UTF-8 cannot.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, Final

from taskweave.core.ids import Micros
from taskweave.core.job import End, Hold, Job, Life, Settled, Spec, State
from taskweave.core.life import drop_at, first, fragile, holds_key, prune_at
from taskweave.core.ready import rank
from taskweave.stores.documents import (
    SpecRest,
    failure_document,
    failure_of,
    history_document,
    history_of,
    life_document,
    life_text,
    progress_document,
    progress_of,
    rest_of,
    spec_rest,
    spec_text,
)

Record = tuple[Any, ...]

STATES: Final[tuple[State, ...]] = tuple(State)  # a state is stored as its place here, and the order never changes
NUMBER: Final = {state: number for number, state in enumerate(STATES)}
SCHEDULED, READY, RUNNING, SUCCEEDED, FAILED, CANCELLED, EXPIRED, LOST = range(8)

DROP, PRUNE = 0, 1  # the chores

INSERTED: Final = (  # the columns of job_insert, in the order of `inserted`
    *("state", "id", "queue", "task", "fragile", "rank_a", "rank_b", "run_at", "spec_rest", "created_at", "due_at"),
    *("expires_at", "ttl_us", "keep_us", "window_until", "unique_key", "payload"),
)
SAVED: Final = (  # the columns of job_save, in the order of `saved`, which ends with seq
    *("state", "fragile", "rank_a", "rank_b", "run_at", "attempt", "fence", "life_rest", "cancel", "progress"),
    *("claim", "lease_until", "started_at", "settled_fence", "settled_digest", "finished_at", "chore", "chore_at"),
    *("prune_at", "unique_key", "result", "seq"),
)
EDITED: Final = (  # the columns of job_edit, in the order of `edited`, which ends with seq
    *("queue", "task", "spec_rest", "created_at", "due_at", "expires_at", "ttl_us", "keep_us", "window_until"),
    *("payload", "seq"),
)
SUCCEEDED_BY: Final = (  # the columns of job_succeed, in the order of `settle.succeed_plainly`
    *("settled_fence", "settled_digest", "finished_at", "chore", "chore_at", "prune_at", "unique_key", "result", "seq"),
)


class Row:
    """A job while a verb works on it: mutable, never seen outside the verb. `claim` is the number of its claim."""

    __slots__ = ("claim", "created_at", "due_at", "expires_at", "key", "life", "seq", "spec")

    def __init__(
        self,
        spec: Spec,
        seq: int,
        created_at: Micros,
        due_at: Micros,
        expires_at: Micros | None,
        life: Life,
        key: str | None = None,
        claim: int | None = None,
    ) -> None:
        self.spec = spec
        self.seq = seq
        self.created_at = created_at
        self.due_at = due_at
        self.expires_at = expires_at
        self.life = life
        self.key = key  # the unique key that this row holds in the table
        self.claim = claim

    def job(self) -> Job:
        return Job(self.spec, self.seq, self.created_at, self.due_at, self.expires_at, self.life)

    def become(self, job: Job) -> None:
        """The row takes over what an edit may change."""
        self.spec, self.due_at, self.expires_at, self.life = job.spec, job.due_at, job.expires_at, job.life


def row_of(record: Record) -> Row:
    """The row of a record of the statements jobs_*: the columns of a whole job, in this order."""
    (
        seq, number, id, queue, task, payload, rest, created_at, due_at, expires_at, run_at, attempt, fence, text,
        cancel, progress, settled_fence, settled_digest, started_at, lease_until, finished_at, result, key, claim,
        claim_id, member,
    ) = record  # fmt: skip
    state = STATES[int(number)]
    lived: dict[str, Any] = life_document(text)
    hold = end = None
    if state is State.RUNNING:
        reported = None if progress is None else progress_of(json.loads(progress))
        hold = Hold(member, claim_id, lease_until, started_at, reported, None if cancel is None else json.loads(cancel))
    elif finished_at is not None:
        end = End(
            finished_at,
            started_at,
            None if result is None else bytes(result),
            lived.get("result_dropped"),
            lived.get("cause"),
            lived.get("reason"),
            failure_of(lived.get("error")),
        )
    life = Life(
        state,
        run_at,
        attempt,
        fence,
        lived.get("lost", 0),
        lived.get("unfit", 0),
        hold,
        None if settled_fence is None else Settled(settled_fence, settled_digest),
        history_of(lived.get("history")),
        end,
    )
    spec = Spec(id, task, queue, bytes(payload), *spec_rest(rest))
    return Row(spec, seq, created_at, due_at, expires_at, life, key, claim)


def inserted(row: Row, aging_us: Micros | None) -> Record:
    """The parameters of job_insert for a job that has lived before; `saved` has the rest."""
    spec, life = row.spec, row.life
    return (
        NUMBER[life.state],
        spec.id,
        spec.queue,
        spec.task,
        int(fragile(spec, life.lost_count)),
        *rank(spec.priority, life.run_at, aging_us),
        life.run_at,
        spec_text(rest_of(spec)),
        row.created_at,
        row.due_at,
        row.expires_at,
        spec.result_ttl_us,
        spec.retention_us,
        window_of(spec, row.created_at),
        row.key,
        spec.payload,
    )


def saved(row: Row, now: Micros, aging_us: Micros | None) -> Record:
    """The parameters of job_save: all that a step may have changed. A key whose scope the step left is let go."""
    spec, life = row.spec, row.life
    hold, end, settled = life.hold, life.end, life.settled
    chore, chore_at, prune = chores(row)
    if row.key is not None and not holds_key(row, now):
        row.key = None
    return (
        NUMBER[life.state],
        int(fragile(spec, life.lost_count)),
        *rank(spec.priority, life.run_at, aging_us),
        life.run_at,
        life.attempt,
        life.fence,
        _life_text(life),
        None if hold is None or hold.cancel is None else json.dumps(hold.cancel),
        None if hold is None or hold.progress is None else json.dumps(progress_document(hold.progress)),
        None if hold is None else row.claim,
        None if hold is None else hold.lease_until,
        hold.started_at if hold is not None else end.started_at if end is not None else None,
        None if settled is None else settled.fence,
        None if settled is None else settled.digest,
        None if end is None else end.finished_at,
        chore,
        chore_at,
        prune,
        row.key,
        None if end is None else end.result,
        row.seq,
    )


def _life_text(life: Life) -> str | None:
    document: dict[str, Any] = {"lost": life.lost_count, "unfit": life.unfit_count}
    if life.history:
        document["history"] = history_document(life.history)
    end = life.end
    if end is not None:
        document["result_dropped"] = end.result_dropped
        document["cause"] = end.cause
        document["reason"] = end.reason
        document["error"] = failure_document(end.error)
    return life_text(document)


def edited(row: Row) -> Record:
    """The parameters of job_edit: what else an operator or a replacement may change."""
    spec = row.spec
    return (
        spec.queue,
        spec.task,
        spec_text(rest_of(spec)),
        row.created_at,
        row.due_at,
        row.expires_at,
        spec.result_ttl_us,
        spec.retention_us,
        window_of(spec, row.created_at),
        spec.payload,
        row.seq,
    )


def window_of(spec: Spec, created_at: Micros) -> Micros | None:
    unique = spec.unique
    return None if unique is None or unique.within_us is None else created_at + unique.within_us


def chores(row: Row) -> tuple[int | None, Micros | None, Micros | None]:
    """Of a finished job what maintenance does next, when, and when the row goes; None three times of any other."""
    prune = prune_at(row)
    if prune is None:
        return None, None, None
    drop = drop_at(row)
    return (PRUNE, prune, prune) if drop is None else (DROP, drop, prune)


class Inserting:
    """Makes the records of new jobs: what depends on the rest of a spec alone is decided once for each kind."""

    def __init__(self, now: Micros, aging_us: Micros | None) -> None:
        self._now, self._aging_us = now, aging_us
        self._kinds: dict[SpecRest, Record] = {}

    def record(self, spec: Spec) -> Record:
        """The parameters of job_insert."""
        rest = rest_of(spec)
        kind = self._kinds.get(rest)
        if kind is None:
            kind = self._kinds[rest] = self._kind(spec, rest)
        state, is_fragile, rank_a, rank_b, run_at, text, expires_at, ttl_us, keep_us, window_until, key = kind
        now = self._now
        return (
            state, spec.id, spec.queue, spec.task, is_fragile, rank_a, rank_b, run_at, text, now, run_at, expires_at,
            ttl_us, keep_us, window_until, key, spec.payload,
        )  # fmt: skip

    def _kind(self, spec: Spec, rest: SpecRest) -> Record:
        now = self._now
        life, expires_at = first(spec, now)
        key = None
        if spec.unique is not None and holds_key(Row(spec, 0, now, life.run_at, expires_at, life), now):
            key = spec.unique.key
        return (
            NUMBER[life.state],
            int(fragile(spec, life.lost_count)),
            *rank(spec.priority, life.run_at, self._aging_us),
            life.run_at,
            spec_text(rest),
            expires_at,
            spec.result_ttl_us,
            spec.retention_us,
            window_of(spec, now),
            key,
        )


@lru_cache(maxsize=4_096)
def success_chores(ttl_us: Micros, keep_us: Micros, with_result: bool) -> tuple[int, Micros, Micros]:
    """`chores` of a success without a unique window, as spans after it."""
    end = End(0, 0, b"" if with_result else None)
    spec = Spec("", "", "", b"", result_ttl_us=ttl_us, retention_us=keep_us)
    chore, chore_at, prune = chores(Row(spec, 0, 0, 0, None, Life(State.SUCCEEDED, 0, end=end)))
    assert chore is not None
    assert chore_at is not None
    assert prune is not None
    return chore, chore_at, prune
