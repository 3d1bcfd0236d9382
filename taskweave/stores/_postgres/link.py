"""Statements by name on one connection of asyncpg that is inside a transaction: what the shared verbs speak to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from taskweave.stores._postgres.driver import Connection
from taskweave.stores._server.rows import RUNNING, SUCCEEDED, Record
from taskweave.stores._server.turn import Link

_STATE, _CLAIM_ID = 1, 24  # of a record of a whole job
_LOCKING: Final = frozenset({"jobs_by_id", "jobs_by_seq", "job_by_key"})


class PostgresLink(Link):
    """A Link (`_server.turn`) over this connection; begins and ends no transaction."""

    __slots__ = ("connection", "statements")

    def __init__(self, connection: Connection, statements: Mapping[str, str]) -> None:
        self.connection = connection
        self.statements = statements

    async def fetch(self, name: str, *parameters: Any) -> Sequence[Record]:
        if name == "find" and min(parameters[1]) > SUCCEEDED:
            name = "find_ended"  # rare states have an index of their own
        records = await self.connection.fetch(self.statements[name], *parameters)
        if name in _LOCKING and any(record[_STATE] == RUNNING and record[_CLAIM_ID] is None for record in records):
            # While this waited for the lock, the job was claimed by a transaction that its snapshot does not see. The
            # rows are locked now, and a new look sees their claim.
            records = await self.connection.fetch(self.statements[name], *parameters)
        return records

    async def execute(self, name: str, *parameters: Any) -> int:
        status = await self.connection.execute(self.statements[name], *parameters)
        return int(status.rpartition(" ")[2])

    async def many(self, name: str, records: Sequence[Record]) -> None:
        sql = self.statements[name]
        if len(records) == 1:
            await self.connection.execute(sql, *records[0])
        else:
            await self.connection.executemany(sql, records)
