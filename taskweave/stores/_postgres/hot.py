"""The verbs of every moment, each as one call of a function of the server (`_sql/postgres/migrations`).

The function means what the shared verb means (`_server.exchange`, `_server.enqueue`), which the agreement walks prove.
It takes what is plain; what is not (a unique key, an end that is no plain success, progress, jobs that spawn) is
stepped by the core first, in a transaction that calls the function as its last statement, at the same instant.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter, itemgetter
from typing import Any, Final

from taskweave.core.bounds import check_batch
from taskweave.core.ids import Micros
from taskweave.core.job import Spec
from taskweave.core.queue.exchange import PROMOTED_MAX, SKIPPED_MAX
from taskweave.core.verbs import (
    CancelRequested,
    Claimed,
    Enqueue,
    Enqueued,
    Exchange,
    Exchanged,
    How,
    Settlement,
)
from taskweave.stores._postgres.heads import READ_MAX, Lane, Place
from taskweave.stores._server.rows import Record
from taskweave.stores._server.settle import check_settlements, in_order, progress, settle_special, split
from taskweave.stores._server.turn import Turn
from taskweave.stores.documents import life_document, rest_of, spec_rest, spec_text

_place = itemgetter(0)
_HEAD, _REFUSED, _CANCEL, _REACHED = 0, -1, -2, -3  # places of rows that are no claimed jobs
_NOWHERE: Final[Mapping[Lane, Place]] = {}

_id, _queue, _task, _payload = map(attrgetter, ("id", "queue", "task", "payload"))
_columns: Final = tuple(
    map(
        attrgetter,
        ("priority", "delay_us", "at", "expires_in_us", "result_ttl_us", "retention_us"),
    )
)


# --- enqueue --------------------------------------------------------------------------------------------------------


def is_plain(op: Enqueue) -> bool:
    """Whether the function can take this batch."""
    return all(spec.unique is None for spec in op.specs)


def enqueued_by(op: Enqueue, at: Micros | None, payload_bytes_max: int) -> Sequence[Any]:
    """The parameters of the function. Raises InvalidInput."""
    specs = op.specs
    check_batch(specs, payload_bytes_max)
    return [
        at,
        *(list(map(column, specs)) for column in (_id, _queue, _task, _payload)),
        _rests(specs),
        *_numbers(specs),
    ]


def _rests(specs: Sequence[Spec]) -> list[str | None]:
    return [spec_text(rest) for rest in map(rest_of, specs)]


def _numbers(specs: Sequence[Spec]) -> Iterable[list[int | None]]:
    return [list(map(column, specs)) for column in _columns]


def enqueued(op: Enqueue, records: Sequence[Record]) -> tuple[Enqueued, ...]:
    """The answer, from that of the function."""
    ((known,),) = records
    if not known:
        return tuple([Enqueued(spec.id) for spec in op.specs])
    there = set(known)
    return tuple([Enqueued(spec.id, How.EXISTING if spec.id in there else How.CREATED) for spec in op.specs])


# --- exchange -------------------------------------------------------------------------------------------------------


def plain_part(op: Exchange) -> list[Settlement] | None:
    """The settlements that the function takes, or None where the core has to step something first.

    Raises InvalidValue, IllegalTransition.
    """
    check_settlements(op.settle)
    plain, special = split(op.settle)
    return None if special or op.progress else plain


def exchanged_by(
    op: Exchange, at: Micros | None, plain: Sequence[Settlement], begun: Mapping[Lane, Place] = _NOWHERE
) -> Sequence[Any]:
    """The parameters of the function; `begun` is where its claim begins to read."""
    return (
        at,
        op.member,
        op.claim_id,
        op.want,
        list(dict.fromkeys(op.queues)),
        list(dict.fromkeys(op.tasks)),
        op.lease_us,
        op.fragile,
        PROMOTED_MAX,
        SKIPPED_MAX,
        [one.id for one in plain],
        [one.fence for one in plain],
        [one.digest() for one in plain],
        [one.result for one in plain],
        READ_MAX,
        [queue for queue, _ in begun],
        [task for _, task in begun],
        *([place[part] for place in begun.values()] for part in range(3)),
    )


def reached(records: Sequence[Record]) -> tuple[int, list[tuple[Lane, Place]]]:
    """How many entries the claim of an exchange has read in vain, and up to which place in which lane."""
    entries, places = 0, list[tuple[Lane, Place]]()
    for row in records:
        if row[0] == _HEAD:
            entries += row[3]
        elif row[0] > _HEAD:
            entries -= 1
        elif row[0] == _REACHED:
            places.append(((row[7], row[8]), (row[6], row[5], row[3])))
    return entries, places


def exchanged(
    op: Exchange, plain: Sequence[Settlement], records: Sequence[Record], refused: Sequence[Settlement] = ()
) -> Exchanged:
    """The answer, from that of the function to the plain settlements and from those that the core has refused."""
    claimed: list[Claimed] = []
    cancels: list[CancelRequested] = []
    stale: set[str] = set()
    now: Micros = 0
    due: Micros | None = None
    for row in sorted(records, key=_place):
        place = row[0]
        if place > 0:
            claimed.append(_claimed(row))
        elif place == _HEAD:
            now, due = row[1], row[4]
        elif place == _REFUSED:
            stale.add(row[2])
        elif place == _CANCEL:
            cancels.append(CancelRequested(row[2], row[3], json.loads(row[11])))
    if stale:
        refused = [*refused, *(one for one in plain if one.id in stale)]
    return Exchanged(now, in_order(op.settle, refused), tuple(claimed), tuple(cancels), due)


def _claimed(row: Record) -> Claimed:
    _, began, id, fence, due_at, run_at, attempt, queue, task, payload, rest, life_rest = row
    lost = 0 if life_rest is None else life_document(life_rest).get("lost", 0)
    age, wait = began - due_at, began - run_at
    return Claimed(
        Spec(id, task, queue, payload, *spec_rest(rest)),
        attempt,
        fence,
        lost,
        age if age > 0 else 0,
        wait if wait > 0 else 0,
    )


async def exchange(turn: Turn, op: Exchange) -> Exchanged:
    """An exchange of which the core has something to step: the verb of `_server.exchange`, in other words."""
    plain, special = split(op.settle)
    await progress(turn, op.progress)
    refused = await settle_special(turn, special) if special else []
    records = await turn.link.fetch("exchange", *exchanged_by(op, turn.now, plain))
    return exchanged(op, plain, records, refused)
