"""A connection of psycopg 3 as the shared verbs need it: for users who have one, and enqueue in its transaction.

The driver is the user's and is imported by nobody here: its classes are found where the connection comes from. Its raw
cursors take $1 as the statements have it. The synchronous link is a coroutine all the same, which never waits.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from taskweave.exceptions import StoreError
from taskweave.stores._postgres.errors import _KINDS
from taskweave.stores._server.rows import RUNNING, SUCCEEDED, Record
from taskweave.stores._server.turn import Link

_LOCKING = frozenset({"jobs_by_id", "jobs_by_seq", "job_by_key"})
_STATE, _CLAIM_ID = 1, 24  # of a record of a whole job


def state_of(connection: Any) -> str:
    """IDLE, ACTIVE, INTRANS, INERROR or UNKNOWN."""
    name: str = connection.info.transaction_status.name
    return name


class _Raw:
    """What both kinds share: a cursor that takes $1, with plain tuples, whatever the connection makes of rows."""

    def __init__(self, connection: Any, statements: Mapping[str, str]) -> None:
        psycopg: Any = sys.modules["psycopg"]
        kind = psycopg.AsyncRawCursor if isinstance(connection, psycopg.AsyncConnection) else psycopg.RawCursor
        self.cursor = kind(connection, row_factory=psycopg.rows.tuple_row)
        self.statements = statements

    def sql(self, name: str, parameters: Sequence[Any]) -> str:
        if name == "find" and min(parameters[1]) > SUCCEEDED:
            name = "find_ended"
        return self.statements[name]


def _claimed_meanwhile(name: str, records: Sequence[Record]) -> bool:
    """Whether a row was claimed while this waited for its lock, by a transaction that its snapshot does not see."""
    return name in _LOCKING and any(record[_STATE] == RUNNING and record[_CLAIM_ID] is None for record in records)


class PsycopgLink(_Raw, Link):
    """A Link over a synchronous connection."""

    async def run(self, sql: str) -> None:
        self.cursor.execute(sql)

    async def fetch(self, name: str, *parameters: Any) -> Sequence[Record]:
        records: Sequence[Record] = self.cursor.execute(self.sql(name, parameters), parameters or None).fetchall()
        if _claimed_meanwhile(name, records):
            records = self.cursor.execute(self.sql(name, parameters), parameters).fetchall()
        return records

    async def execute(self, name: str, *parameters: Any) -> int:
        self.cursor.execute(self.sql(name, parameters), parameters or None)
        return int(self.cursor.rowcount)

    async def many(self, name: str, records: Sequence[Record]) -> None:
        self.cursor.executemany(self.statements[name], records)


class AsyncPsycopgLink(_Raw, Link):
    """A Link over an asynchronous connection, in the loop that has it."""

    async def run(self, sql: str) -> None:
        await self.cursor.execute(sql)

    async def fetch(self, name: str, *parameters: Any) -> Sequence[Record]:
        await self.cursor.execute(self.sql(name, parameters), parameters or None)
        records: Sequence[Record] = await self.cursor.fetchall()
        if _claimed_meanwhile(name, records):
            await self.cursor.execute(self.sql(name, parameters), parameters)
            records = await self.cursor.fetchall()
        return records

    async def execute(self, name: str, *parameters: Any) -> int:
        await self.cursor.execute(self.sql(name, parameters), parameters or None)
        return int(self.cursor.rowcount)

    async def many(self, name: str, records: Sequence[Record]) -> None:
        await self.cursor.executemany(self.statements[name], records)


def converted_psycopg(error: BaseException, url: str) -> StoreError | None:
    """What an error of psycopg is called here; None for any other error."""
    psycopg: Any = sys.modules.get("psycopg")
    if psycopg is None or not isinstance(error, psycopg.Error):
        return None
    code = str(getattr(error, "sqlstate", None) or "08")  # without a code it never reached the server, or was cut off
    kind, problem = _KINDS.get(code) or _KINDS.get(code[:2]) or (StoreError, "the server refused the operation")
    return kind(url, f"{problem} ({error}; SQLSTATE {code})")
