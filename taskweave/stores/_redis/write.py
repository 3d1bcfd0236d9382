"""The hot verbs as arguments of their scripts, and the answers back: enqueue, exchange, renew.

What depends on the op alone is checked and computed here, before anything is sent (bounds, digests, documents); what
depends on what is stored is the scripts' business.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from taskweave.core.bounds import check_batch
from taskweave.core.ids import SPAN_MAX_US
from taskweave.core.job import Spec, Verb
from taskweave.core.life import SETTLING
from taskweave.core.verbs import (
    CancelRequested,
    Claimed,
    Enqueue,
    Enqueued,
    Exchange,
    Exchanged,
    How,
    Lease,
    LeaseProgress,
    Renew,
    Renewed,
    Settlement,
)
from taskweave.exceptions import IllegalTransition, InvalidInput, InvalidValue, UniqueConflict
from taskweave.stores._redis.kinds import Kind, kind_of, spec_of
from taskweave.stores._redis.rows import document, failure_text, raw, text_of
from taskweave.stores.documents import progress_document

Arguments = list[Any]  # of bytes, text and numbers

_CLAIMED_WIDTH: Final = 8  # values that exchange.lua answers for each claimed job


# --- enqueue ------------------------------------------------------------------------------------------------------


class _Born:
    """New jobs among the arguments: each kind once, each job as a reference to its kind."""

    def __init__(self) -> None:
        self.places: dict[Kind, int] = {}

    def place(self, spec: Spec) -> int:
        kind = kind_of(spec)
        place = self.places.get(kind)
        if place is None:
            place = self.places[kind] = len(self.places) + 1
        return place

    def arguments(self) -> Arguments:
        found: Arguments = [len(self.places)]
        for kind in self.places:
            found += (kind.text, kind.due, kind.expires, kind.on_conflict)
        return found


def enqueue_arguments(op: Enqueue, payload_bytes_max: int) -> Arguments:
    """Raises InvalidInput."""
    check_batch(op.specs, payload_bytes_max)
    born = _Born()
    place = born.place
    jobs: Arguments = [len(op.specs)]
    for spec in op.specs:
        jobs += (spec.id, place(spec), spec.payload)
    return born.arguments() + jobs


_HOW: Final = {how.value.encode(): how for how in How}


def enqueued(op: Enqueue, answer: Any) -> tuple[Enqueued, ...]:
    """Raises UniqueConflict."""
    if answer[0] == b"conflict":
        raise UniqueConflict(text_of(answer[1]), text_of(answer[2]))
    if answer[0] == b"created":
        return tuple([Enqueued(spec.id) for spec in op.specs])
    said = answer[1]
    return tuple([Enqueued(text_of(id), _HOW[how]) for id, how in zip(said[::2], said[1::2], strict=True)])


# --- exchange -----------------------------------------------------------------------------------------------------


def exchange_arguments(op: Exchange, payload_bytes_max: int) -> Arguments:
    """Raises IllegalTransition and InvalidValue."""
    plain, special = _sorted(op.settle)
    born = _Born()
    ends: Arguments = [len(plain)]
    for settlement in plain:
        ends += (raw(settlement.id), settlement.fence, b"%x" % settlement.digest(), settlement.result)
    ends.append(len(special))
    for settlement in special:
        ends += _special(settlement, born, payload_bytes_max)
    return [
        raw(op.member),
        raw(op.claim_id),
        op.want,
        op.lease_us,
        op.fragile,
        *_listed(op.queues),
        *_listed(op.tasks),
        *born.arguments(),
        *_progress(op.progress),
        *ends,
    ]


def _listed(names: tuple[str, ...]) -> Arguments:
    return [len(names), *map(raw, names)]


def _progress(reports: tuple[LeaseProgress, ...]) -> Arguments:
    found: Arguments = [len(reports)]
    for report in reports:
        found += (raw(report.id), report.fence, document(progress_document(report.progress)))
    return found


def _sorted(settlements: tuple[Settlement, ...]) -> tuple[list[Settlement], list[Settlement]]:
    """The plain successes and the others; all are others where the order among them matters."""
    free = len({settlement.id for settlement in settlements}) == len(settlements)
    plain: list[Settlement] = []
    special: list[Settlement] = []
    for settlement in settlements:
        if settlement.verb not in SETTLING:
            raise IllegalTransition("running", settlement.verb.value)
        if settlement.delay_us and not 0 <= settlement.delay_us <= SPAN_MAX_US:
            raise InvalidValue("delay", settlement.delay_us, "microseconds from 0 to ten years")
        free = free and not settlement.spawn
        (plain if _is_plain(settlement) else special).append(settlement)
    return (plain, special) if free else ([], list(settlements))


def _is_plain(settlement: Settlement) -> bool:
    return settlement.verb is Verb.SUCCEED and (
        settlement.result is not None
        and settlement.error is None
        and settlement.cause is None
        and settlement.reason is None
        and settlement.result_dropped is None
        and not settlement.delay_us
    )


def _optional(value: str | bytes | None) -> bytes:
    if value is None:
        return b"-"
    return b"=" + (value if isinstance(value, bytes) else raw(value))


def _special(settlement: Settlement, born: _Born, payload_bytes_max: int) -> Arguments:
    found: Arguments = [
        raw(settlement.id),
        settlement.fence,
        b"%x" % settlement.digest(),
        settlement.verb.value,
        settlement.delay_us,
        1 if settlement.unfit else 0,
        _optional(settlement.result),
        _optional(settlement.result_dropped),
        _optional(settlement.cause),
        _optional(settlement.reason),
        _optional(failure_text(settlement.error)),
    ]
    try:
        check_batch(settlement.spawn, payload_bytes_max)
    except InvalidInput:  # expected trouble of one outcome, answered as refused
        return [*found, -1]
    found.append(len(settlement.spawn))
    for spec in settlement.spawn:
        found += (born.place(spec), spec.id, spec.payload)
    return found


def exchanged(op: Exchange, answer: Any) -> Exchanged:
    now, claimed, cancels, due = answer[0], answer[2], answer[3], answer[4]
    refused: list[int] = answer[1]
    lost: tuple[Lease, ...] = ()
    if refused:
        plain, special = _sorted(op.settle)
        ends = [plain[place - 1] if place > 0 else special[-place - 1] for place in refused]
        if plain and special:
            gone = {settlement.id for settlement in ends}
            ends = [settlement for settlement in op.settle if settlement.id in gone]
        lost = tuple([Lease(settlement.id, settlement.fence) for settlement in ends])
    jobs = tuple(
        [
            Claimed(spec_of(id.decode(), kind, payload), attempt, fence, lost_count, age, wait)
            for id, kind, payload, attempt, fence, lost_count, age, wait in _rows(claimed)
        ]
    )
    return Exchanged(int(now), lost, jobs, _cancels(cancels), None if due is None else int(due))


def _rows(flat: list[Any]) -> Iterable[tuple[Any, ...]]:
    values = iter(flat)
    return zip(*[values] * _CLAIMED_WIDTH, strict=True)


def _cancels(answer: list[Any]) -> tuple[CancelRequested, ...]:
    return tuple([CancelRequested(text_of(id), int(fence), text_of(reason)) for id, fence, reason in answer])


# --- renew --------------------------------------------------------------------------------------------------------


def renew_arguments(op: Renew) -> Arguments:
    found: Arguments = [raw(op.member), op.lease_us, len(op.leases)]
    for lease in op.leases:
        found += (raw(lease.id), lease.fence)
    return found + _progress(op.progress)


def renewed(op: Renew, answer: Any) -> Renewed:
    lost: list[int] = answer[1]
    now, cancels = answer[0], answer[2]
    return Renewed(int(now), tuple([op.leases[place - 1] for place in lost]), _cancels(cancels))
