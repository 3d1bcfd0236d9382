"""One verb in one transaction of a SQL server: store time, and the rows it loads, locks and saves.

The verbs of this package are async functions that speak to the server through a `Link`, by the names of statements.
A dialect is a folder of statements, one a file, and a Link that runs them on one connection inside a transaction that
it began. The rows that a verb may change are locked when it loads them, in ascending order of seq, at READ COMMITTED;
what a claim looks for skips rows that others hold (SKIP LOCKED). Two ways in which transactions may still meet are
left to the server and to the store around the verb, which repeats the whole transaction: a deadlock, and two that take
one unique key, job id or claim_id at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from attrs import define, field

from taskweave.core.ids import JobId, Micros
from taskweave.core.life import holds_key
from taskweave.stores._server.rows import Record, Row, edited, row_of, saved

Ask = tuple[Any, ...]  # the name of a statement, and its parameters


@define
class Counted:
    """How many rows a statement changed, -1 until it has been sent."""

    rows: int = -1


class Link(Protocol):
    """One connection inside a transaction; statements are called by name, parameters are as the statement says.

    A parameter may be a list (of ids, seqs, queues): the dialect binds it in its own way; lists are never empty.
    Statements take effect in the order in which they are called. What `write` and `many` are told may be sent together
    with the next statement, so that an error of theirs may be raised by that one.
    """

    __slots__ = ()

    async def fetch(self, name: str, *parameters: Any) -> Sequence[Record]: ...

    async def execute(self, name: str, *parameters: Any) -> int:
        """How many rows the statement changed."""
        ...

    async def many(self, name: str, records: Sequence[Record]) -> None:
        """The statement for each of these records, in as few round trips as the dialect can."""
        ...

    async def write(self, name: str, *parameters: Any) -> None:
        """As execute, where nobody asks how many rows it changed."""
        await self.execute(name, *parameters)

    async def write_counted(self, name: str, *parameters: Any) -> Counted:
        """As write, and the count is known after the next read, or `flush`."""
        return Counted(await self.execute(name, *parameters))

    async def flush(self) -> None:
        """Send what was written and not yet sent."""
        return

    async def fetch_all(self, asks: Sequence[Ask]) -> list[Sequence[Record]]:
        """The answers to several statements, which do not need each other's."""
        return [await self.fetch(*ask) for ask in asks]

    async def fetch_last(self, asks: Sequence[Ask]) -> list[Sequence[Record]]:
        """As fetch_all, and the verb sends nothing after it: the transaction may be committed with it."""
        return await self.fetch_all(asks)


@define
class Turn:
    """What a verb works with."""

    link: Link
    now: Micros
    floor: Micros
    aging_us: Micros | None
    rerank_after: int | None
    payload_bytes_max: int
    url: str
    _lapsed: set[str] = field(factory=set[str], init=False)  # keys of rows, locked here, that hold them no longer

    # --- reading rows ---

    async def rows_by_id(self, ids: Iterable[JobId]) -> dict[JobId, Row]:
        """These rows, locked."""
        wanted = list(dict.fromkeys(ids))
        if not wanted:
            return {}
        return {row.spec.id: row for row in map(row_of, await self.link.fetch("jobs_by_id", wanted))}

    async def rows_by_seq(self, seqs: Iterable[int]) -> dict[int, Row]:
        """These rows, locked."""
        wanted = list(seqs)
        if not wanted:
            return {}
        return {row.seq: row for row in map(row_of, await self.link.fetch("jobs_by_seq", wanted))}

    async def row(self, id: JobId) -> Row | None:
        return (await self.rows_by_id((id,))).get(id)

    async def holder(self, key: str) -> Row | None:
        """The row that keeps others with this unique key out now, locked."""
        found = await self.link.fetch("job_by_key", key)
        row = row_of(found[0]) if found else None
        if row is None or holds_key(row, self.now):
            return row
        self._lapsed.add(key)
        return None

    async def take_over(self, key: str) -> None:
        """Free the key from a row that `holder` met and that holds it no longer.

        From no other row: since then another transaction may have taken the key, and the unique index must tell.
        """
        if key in self._lapsed:
            self._lapsed.discard(key)
            await self.link.write("job_free_key", key)

    # --- writing rows ---

    async def save(self, rows: Sequence[Row]) -> None:
        """These rows have taken a step of their lives."""
        if rows:
            await self.link.many("job_save", [saved(row, self.now, self.aging_us) for row in rows])

    async def edit(self, row: Row) -> None:
        """The row became another job's content, or another due time; it takes its unique key again if that is free."""
        if row.key is not None:
            await self.link.write("job_free_key", row.key)
            row.key = None
        unique = row.spec.unique
        if unique is not None and holds_key(row, self.now) and await self.holder(unique.key) is None:
            await self.take_over(unique.key)
            row.key = unique.key
        await self.link.many("job_edit", [edited(row)])
        await self.save([row])

    async def remove(self, seqs: Sequence[int]) -> None:
        if seqs:
            await self.link.write("job_delete", list(seqs))


async def begin(link: Link, at: Micros | None, *, payload_bytes_max: int, url: str) -> Turn:
    """The turn of a verb on this link, at the server's time or at the instant given, never below the floor."""
    ((clock, floor, aging_us, rerank_after),) = await link.fetch("meta_read")
    now: Micros = clock if at is None else at
    return Turn(link, max(now, floor), floor, aging_us, rerank_after, payload_bytes_max, url)
