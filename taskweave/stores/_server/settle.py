"""Settling what ended: the first half of an exchange.

A plain success (nothing spawned, nothing said but a result) is by far the most frequent end and has one meaning, so it
is written from a few columns without building the job. Everything else is loaded whole and stepped by core.life. The
two do not disturb each other: a plain success touches its own row alone, so the order between them does not matter,
but where a batch names a job twice or spawns, it is taken one by one in the given order.
"""

from __future__ import annotations

from collections.abc import Sequence

from taskweave.core import life as lives
from taskweave.core.bounds import check_batch
from taskweave.core.ids import SPAN_MAX_US, JobId
from taskweave.core.job import Verb
from taskweave.core.verbs import Lease, LeaseProgress, Settlement
from taskweave.exceptions import IllegalTransition, InvalidInput, InvalidValue
from taskweave.stores._server.enqueue import spawn
from taskweave.stores._server.rows import RUNNING, Record, Row, success_chores
from taskweave.stores._server.turn import Counted, Turn

Succeeding = tuple[list[Settlement], Counted]


def check_settlements(settlements: Sequence[Settlement]) -> None:
    """What fails the whole exchange, asked before anything is sent. Raises InvalidValue, IllegalTransition."""
    for settlement in settlements:
        if settlement.verb not in lives.SETTLING:
            raise IllegalTransition("running", settlement.verb.value)
        if settlement.delay_us and not 0 <= settlement.delay_us <= SPAN_MAX_US:
            raise InvalidValue("delay", settlement.delay_us, "microseconds from 0 to ten years")


def split(settlements: Sequence[Settlement]) -> tuple[list[Settlement], list[Settlement]]:
    """Those that may be plain successes, and those that are to be taken one by one, each in the given order."""
    if any(one.spawn for one in settlements) or len({one.id for one in settlements}) != len(settlements):
        return [], list(settlements)
    plain: list[Settlement] = []
    special: list[Settlement] = []
    for settlement in settlements:
        (plain if is_plain(settlement) else special).append(settlement)
    return plain, special


def is_plain(settlement: Settlement) -> bool:
    return settlement.verb is Verb.SUCCEED and (
        settlement.error is None
        and settlement.cause is None
        and settlement.reason is None
        and settlement.result_dropped is None
        and not settlement.delay_us
        and not settlement.spawn
    )


def in_order(settlements: Sequence[Settlement], refused: Sequence[Settlement]) -> tuple[Lease, ...]:
    """The leases of the refused ones, in the order of all of them."""
    if not refused:
        return ()
    stale = set(refused)
    return tuple([Lease(one.id, one.fence) for one in settlements if one in stale])


async def succeed_at_once(turn: Turn, settlements: Sequence[Settlement]) -> list[Succeeding]:
    """Write the plain successes unread, those that say the same together; what they changed is counted later."""
    alike: dict[tuple[int, int, bytes | None], list[Settlement]] = {}
    for one in settlements:
        alike.setdefault((one.fence, one.digest(), one.result), []).append(one)
    begun: list[Succeeding] = []
    for (fence, digest, result), those in alike.items():
        ids = [one.id for one in those]
        if result is None:
            counted = await turn.link.write_counted("job_settle_bare", turn.now, fence, digest, ids)
        else:
            counted = await turn.link.write_counted("job_settle", turn.now, fence, digest, ids, result)
        begun.append((those, counted))
    return begun


async def not_succeeded(turn: Turn, begun: Sequence[Succeeding]) -> list[Settlement]:
    """Of successes that were written unread, those that are stale: what has changed already is a repeat now."""
    if any(counted.rows < 0 for _, counted in begun):
        await turn.link.flush()
    missed = [one for those, counted in begun if counted.rows != len(those) for one in those]
    if not missed:
        return []
    return await succeed_plainly(turn, missed, await turn.link.fetch("settle_load", [one.id for one in missed]))


async def succeed_plainly(turn: Turn, settlements: Sequence[Settlement], loaded: Sequence[Record]) -> list[Settlement]:
    """Write the plain successes, whose rows settle_load has loaded; answers those that are stale."""
    found = {record[0]: record for record in loaded}
    records: list[Record] = []
    refused: list[Settlement] = []
    for settlement in settlements:
        record = found.get(settlement.id)
        if record is None:
            refused.append(settlement)
            continue
        _, _, fence, state, _, _, _, _, settled_fence, settled_digest = record
        digest = settlement.digest()
        if state == RUNNING and fence == settlement.fence:
            records.append(_succeeded(turn, record, settlement, digest))
        elif (settled_fence, settled_digest) != (settlement.fence, digest):
            refused.append(settlement)
    if records:
        await turn.link.many("job_succeed", records)
    return refused


def _succeeded(turn: Turn, record: Record, settlement: Settlement, digest: int) -> Record:
    """The parameters of job_succeed: rows.SUCCEEDED_BY."""
    _, seq, fence, _, ttl_us, keep_us, window_until, key, _, _ = record
    now, result = turn.now, settlement.result
    chore, chore_span, prune_span = success_chores(ttl_us, keep_us, result is not None)
    prune = now + prune_span if window_until is None else max(now + prune_span, window_until)
    chore_at = prune if result is None else now + chore_span
    held = key if window_until is not None and now < window_until else None
    return fence, digest, now, chore, chore_at, prune, held, result, seq


async def settle_special(turn: Turn, settlements: Sequence[Settlement]) -> list[Settlement]:
    """Take these one by one, in order; answers those that are stale, or spawn what is not valid."""
    rows = await turn.rows_by_id([one.id for one in settlements])
    refused: list[Settlement] = []
    changed: dict[int, Row] = {}
    for settlement in settlements:
        row = rows.get(settlement.id)
        life = None if row is None else lives.settle(row, settlement, turn.now)
        if row is None or life is None or not _can_spawn(turn, settlement, life is row.life):
            refused.append(settlement)
            continue
        if life is row.life:
            continue  # a repeat, and what it spawned is there
        row.life = life
        changed[row.seq] = row
        if settlement.spawn:
            await turn.save(list(changed.values()))  # frees the unique keys that a child may take
            changed.clear()
            await spawn(turn, settlement.spawn)
    await turn.save(list(changed.values()))
    return refused


def _can_spawn(turn: Turn, settlement: Settlement, repeat: bool) -> bool:
    if not settlement.spawn or repeat:
        return True
    try:
        check_batch(settlement.spawn, turn.payload_bytes_max)
    except InvalidInput:  # expected trouble of one outcome, answered as refused
        return False
    return True


async def progress(turn: Turn, reports: Sequence[LeaseProgress]) -> None:
    if not reports:
        return
    rows: dict[JobId, Row] = await turn.rows_by_id([report.id for report in reports])
    changed: dict[int, Row] = {}
    for report in reports:
        row = rows.get(report.id)
        life = None if row is None else lives.progressed(row.life, report.fence, report.progress)
        if row is not None and life is not None:
            row.life = life
            changed[row.seq] = row
    await turn.save(list(changed.values()))
