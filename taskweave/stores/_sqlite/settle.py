"""Settling what ended: the first half of an exchange.

A plain success (nothing in the rest of its life, no unique key, nothing spawned) is by far the most frequent end and
has one meaning, so it is written without building the job: what core.life would make of it depends on the rest of
its spec alone, and is asked there once for each kind. Everything else is loaded whole and stepped by core.life.
"""

from __future__ import annotations

from typing import Final

from taskweave.core import life as lives
from taskweave.core.bounds import check_batch
from taskweave.core.ids import SPAN_MAX_US, JobId
from taskweave.core.job import Verb
from taskweave.core.verbs import Lease, LeaseProgress, Settlement
from taskweave.exceptions import IllegalTransition, InvalidInput, InvalidValue
from taskweave.stores._sqlite.enqueue import known_ids, make_room, spawn
from taskweave.stores._sqlite.rows import RUNNING, Record, Row, success_chores
from taskweave.stores._sqlite.statements import statement
from taskweave.stores._sqlite.turn import Turn, listed

_LOAD: Final = statement("settle_load")
_SUCCEED: Final = statement("job_succeed")


def settle(turn: Turn, settlements: tuple[Settlement, ...]) -> tuple[Lease, ...]:
    """Take each settlement in the given order; answers those that changed nothing."""
    ids = [settlement.id for settlement in settlements]
    special = settlements
    if len(set(ids)) == len(ids) and not any(settlement.spawn for settlement in settlements):
        special = _succeed_plainly(turn, settlements, ids)
        if not special:
            return ()
    rows = turn.rows_by_id([settlement.id for settlement in special])
    return tuple(
        [Lease(settlement.id, settlement.fence) for settlement in special if not _settle_one(turn, rows, settlement)]
    )


def _succeed_plainly(turn: Turn, settlements: tuple[Settlement, ...], ids: list[JobId]) -> tuple[Settlement, ...]:
    """Write the plain successes; returns the others, in their order."""
    found = {record[0]: record for record in turn.run(_LOAD, (listed(ids),)).fetchall()}
    now, special = turn.now, list[Settlement]()
    records: list[Record] = []
    append, chores_of = records.append, success_chores
    for settlement in settlements:
        record = found.get(settlement.id)
        if record is None or not _plain(settlement):
            special.append(settlement)
            continue
        _, seq, fence, rest, life_rest, key, state = record
        if state != RUNNING or fence != settlement.fence or life_rest is not None or key is not None:
            special.append(settlement)
            continue
        result = settlement.result
        chore, chore_span, prune_span = chores_of(rest, result is not None)
        append((fence, settlement.digest(), now, chore, now + chore_span, now + prune_span, result, seq))
    if records:
        turn.cursor.executemany(_SUCCEED, records)
    return tuple(special)


def _plain(settlement: Settlement) -> bool:
    return settlement.verb is Verb.SUCCEED and (
        settlement.error is None
        and settlement.cause is None
        and settlement.reason is None
        and settlement.result_dropped is None
        and not settlement.delay_us
    )


def _settle_one(turn: Turn, rows: dict[JobId, Row], settlement: Settlement) -> bool:
    row = rows.get(settlement.id)
    life = None if row is None else lives.settle(row, settlement, turn.now)
    if row is None or life is None or not _can_spawn(turn, settlement, life is row.life):
        return False
    if life is not row.life:
        row.life = life
        turn.save(row)
        if settlement.spawn:
            spawn(turn, settlement.spawn)
    return True


def _can_spawn(turn: Turn, settlement: Settlement, repeat: bool) -> bool:
    if not settlement.spawn or repeat:
        return True
    try:
        check_batch(settlement.spawn, turn.settings.payload_bytes_max)
    except InvalidInput:  # expected trouble of one outcome, answered as refused
        return False
    return True


def check_settlements(turn: Turn, settlements: tuple[Settlement, ...]) -> None:
    """Asks before the first write what fails the whole exchange. Raises InvalidValue, IllegalTransition, StoreFull."""
    spawning: list[Settlement] = []
    for settlement in settlements:
        if settlement.verb not in lives.SETTLING:
            raise IllegalTransition("running", settlement.verb.value)
        if settlement.delay_us and not 0 <= settlement.delay_us <= SPAN_MAX_US:
            raise InvalidValue("delay", settlement.delay_us, "microseconds from 0 to ten years")
        if settlement.spawn:
            spawning.append(settlement)
    if not spawning or turn.settings.jobs_max is None:
        return
    rows = turn.rows_by_id([settlement.id for settlement in spawning])
    spawned = 0
    for settlement in spawning:
        row = rows.get(settlement.id)
        if row is not None and row.life.hold is not None and row.life.fence == settlement.fence:
            ids = [spec.id for spec in settlement.spawn]
            known = known_ids(turn, ids)
            spawned += sum(id not in known for id in ids)
    if spawned:
        make_room(turn, spawned)


def progress(turn: Turn, reports: tuple[LeaseProgress, ...]) -> None:
    rows = turn.rows_by_id({report.id for report in reports})
    for report in reports:
        row = rows.get(report.id)
        life = None if row is None else lives.progressed(row.life, report.fence, report.progress)
        if row is not None and life is not None:
            row.life = life
            turn.save(row)
