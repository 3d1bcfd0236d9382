"""Enqueue: all or nothing, once for each id, at most one live job for each unique key.

A batch is planned as the queue machine does it: known ids are asked for at once, unique keys one by one. Two producers
that take one id or one key at the same time are told apart by the unique indexes: the second one's transaction fails
and is repeated by the store, and finds then what the first has left.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from taskweave.core.bounds import check_batch
from taskweave.core.ids import JobId
from taskweave.core.job import Spec
from taskweave.core.life import replaced
from taskweave.core.verbs import Enqueue, Enqueued, How
from taskweave.exceptions import UniqueConflict
from taskweave.stores._server.rows import Inserting, Row
from taskweave.stores._server.turn import Turn


async def enqueue(turn: Turn, op: Enqueue) -> tuple[Enqueued, ...]:
    """One answer for each spec. Raises InvalidInput, UniqueConflict; then nothing was stored."""
    check_batch(op.specs, turn.payload_bytes_max)
    plan = _Plan(turn, await known_ids(turn, [spec.id for spec in op.specs]))
    answers = tuple([await plan.take(spec) for spec in op.specs])
    for row in plan.replacements:
        await turn.edit(row)
    await add(turn, plan.fresh)
    return answers


async def add(turn: Turn, specs: Sequence[Spec]) -> None:
    """Insert these as new jobs, in this order; lapsed windows of their keys are taken over."""
    if not specs:
        return
    for spec in specs:
        if spec.unique is not None:
            await turn.take_over(spec.unique.key)
    inserting = Inserting(turn.now, turn.aging_us)
    await turn.link.many("job_insert", [inserting.record(spec) for spec in specs])


async def spawn(turn: Turn, specs: Sequence[Spec]) -> None:
    """Add the jobs of a settlement: a taken id or unique key means that the job is there already."""
    known = await known_ids(turn, [spec.id for spec in specs])
    if not any(spec.unique is not None for spec in specs):
        await add(turn, [spec for spec in specs if spec.id not in known])
        return
    for spec in specs:
        taken = spec.unique is not None and await turn.holder(spec.unique.key) is not None
        if spec.id not in known and not taken:
            await add(turn, [spec])


async def known_ids(turn: Turn, ids: Iterable[JobId]) -> set[JobId]:
    wanted = list(ids)
    return {record[0] for record in await turn.link.fetch("job_ids_known", wanted)} if wanted else set()


class _Plan:
    """What a batch would do, written nowhere yet."""

    def __init__(self, turn: Turn, known: set[JobId]) -> None:
        self.turn = turn
        self.known = known
        self.fresh: list[Spec] = []
        self.replacements: list[Row] = []
        self.taken: dict[str, JobId] = {}  # unique keys that this batch takes, with who has them then

    async def take(self, spec: Spec) -> Enqueued:
        if spec.id in self.known:
            return Enqueued(spec.id, How.EXISTING)
        if spec.unique is None:
            self.fresh.append(spec)
            return Enqueued(spec.id)
        return await self._take_unique(spec, spec.unique.key, spec.unique.on_conflict)

    async def _take_unique(self, spec: Spec, key: str, on_conflict: str) -> Enqueued:
        holder = self.taken.get(key)
        row = None
        if holder is None:
            row = await self.turn.holder(key)
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
                row.become(job)
                self.replacements.append(row)
                self.taken[key] = holder
                return Enqueued(holder, How.REPLACED)
        return Enqueued(holder, How.EXISTING)
