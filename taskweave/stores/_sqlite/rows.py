"""A job as a row of SQLite and as a value of the core, both ways.

What is stored is what `core.life` decided; the only derived columns are those that indexes need: the rank (core.ready),
whether the job is fragile, when its next chore is due, and the unique key while the row holds it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from taskweave.core.ids import Micros
from taskweave.core.job import End, Hold, Job, Life, Settled, Spec, State
from taskweave.core.life import drop_at, fragile, holds_key, prune_at
from taskweave.core.ready import rank
from taskweave.stores.documents import (
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

STATES: Final[tuple[State, ...]] = (
    State.SCHEDULED,
    State.READY,
    State.RUNNING,
    State.SUCCEEDED,
    State.FAILED,
    State.CANCELLED,
    State.EXPIRED,
    State.LOST,
)
NUMBER: Final = {state: number for number, state in enumerate(STATES)}
SCHEDULED, READY, RUNNING, SUCCEEDED, FAILED, CANCELLED, EXPIRED, LOST = range(8)

DROP, PRUNE = 0, 1  # the chores


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


def row_of(record: Record) -> Row:
    """The row of a record of the view whole_job."""
    (
        seq, number, id, queue, task, payload, rest, created_at, due_at, expires_at, run_at, attempt, fence, text,
        settled_fence, settled_digest, started_at, lease_until, finished_at, result, key, claim, claim_id, member,
    ) = record  # fmt: skip
    state = STATES[int(number)]
    lived: dict[str, Any] = life_document(text)
    hold = end = None
    if state is State.RUNNING:
        progress = progress_of(lived.get("progress"))
        hold = Hold(member, claim_id, lease_until, started_at, progress, lived.get("cancel"))
    elif finished_at is not None:
        end = End(
            finished_at,
            started_at,
            result,
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
    spec = Spec(id, task, queue, payload, *spec_rest(rest))
    return Row(spec, seq, created_at, due_at, expires_at, life, key, claim)


def saved(row: Row, now: Micros, aging_us: Micros | None) -> Record:
    """The parameters of job_save: all that a step may have changed. A key whose scope the step left is let go."""
    spec, life = row.spec, row.life
    hold, end, settled = life.hold, life.end, life.settled
    chore, chore_at, prune = chores(row)
    if row.key is not None and not holds_key(row, now):
        row.key = None
    return (
        NUMBER[life.state],
        fragile(spec, life.lost_count),
        *rank(spec.priority, life.run_at, aging_us),
        life.run_at,
        life.attempt,
        life.fence,
        _life_text(life),
        None if hold is None else row.claim,
        None if hold is None else hold.lease_until,
        hold.started_at if hold is not None else end.started_at if end is not None else None,
        None if hold is None or hold.cancel is None else 1,
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


def inserted(row: Row, aging_us: Micros | None) -> Record:
    """The parameters of job_insert, for a row that has lived before: `saved` writes the rest."""
    spec, life = row.spec, row.life
    return (
        row.seq,
        NUMBER[life.state],
        spec.id,
        spec.queue,
        spec.task,
        fragile(spec, life.lost_count),
        *rank(spec.priority, life.run_at, aging_us),
        life.run_at,
        spec_text(rest_of(spec)),
        row.created_at,
        row.due_at,
        row.expires_at,
        row.key,
        spec.payload,
    )


def _life_text(life: Life) -> str | None:
    document: dict[str, Any] = {"lost": life.lost_count, "unfit": life.unfit_count}
    if life.history:
        document["history"] = history_document(life.history)
    hold, end = life.hold, life.end
    if hold is not None:
        document["progress"] = progress_document(hold.progress)
        document["cancel"] = hold.cancel
    if end is not None:
        document["result_dropped"] = end.result_dropped
        document["cause"] = end.cause
        document["reason"] = end.reason
        document["error"] = failure_document(end.error)
    return life_text(document)


def edited(row: Row) -> Record:
    """The parameters of job_edit: what else an operator or a replacement may change."""
    spec = row.spec
    return spec.queue, spec.task, spec_text(rest_of(spec)), row.due_at, row.expires_at, spec.payload, row.seq


def chores(row: Row) -> tuple[int | None, Micros | None, Micros | None]:
    """Of a finished job what maintenance does next, when, and when the row goes; None three times of any other."""
    prune = prune_at(row)
    if prune is None:
        return None, None, None
    drop = drop_at(row)
    return (PRUNE, prune, prune) if drop is None else (DROP, drop, prune)


@lru_cache(maxsize=4_096)
def success_chores(rest: str | None, with_result: bool) -> tuple[int, Micros, Micros]:
    """`chores` of any job with this rest of its spec and no unique key, as spans after its success."""
    end = End(0, 0, b"" if with_result else None)
    spec = Spec("", "", "", b"", *spec_rest(rest))
    chore, chore_at, prune = chores(Row(spec, 0, 0, 0, None, Life(State.SUCCEEDED, 0, end=end)))
    assert chore is not None
    assert chore_at is not None
    assert prune is not None
    return chore, chore_at, prune
