"""Statements by name on one connection of asyncmy that is inside a transaction: what the shared verbs speak to.

Parameters become literals in the text. Bytes are written in hexadecimal, which means the same in every sql_mode; texts
are escaped by the driver and then encoded strictly, so that what UTF-8 cannot say is refused and never sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from taskweave.stores._mysql.driver import Connection
from taskweave.stores._mysql.statements import Statement
from taskweave.stores._server.rows import SUCCEEDED, Record

BYTES_MAX: Final = 1 << 20  # of one text, if the server takes that much; a row may be longer


class MySQLLink:
    """A Link (`_server.turn`) over this connection; begins and ends no transaction."""

    __slots__ = ("_cursor", "bytes_max", "connection", "statements")

    def __init__(self, connection: Connection, statements: Mapping[str, Statement], bytes_max: int = BYTES_MAX) -> None:
        self.connection = connection
        self.statements = statements
        self.bytes_max = bytes_max
        self._cursor = connection.cursor()

    async def fetch(self, name: str, *parameters: Any) -> Sequence[Record]:
        if name == "find" and min(parameters[1]) > SUCCEEDED:
            name = "find_ended"  # rare states have an index of their own
        statement = self.statements[name]
        if statement.leap is not None:
            return await self._leap(statement, list(parameters))
        return await self.run(statement.text(parameters, self.literal))

    async def execute(self, name: str, *parameters: Any) -> int:
        await self.run(self.statements[name].text(parameters, self.literal))
        return int(self._cursor.rowcount)

    async def many(self, name: str, records: Sequence[Record]) -> None:
        batch: list[bytes] = []
        size = 0
        for text in self.statements[name].texts(records, self.literal, self.bytes_max):
            if batch and size + len(text) > self.bytes_max:
                await self.run(b";".join(batch))
                batch, size = [], 0
            batch.append(text)
            size += len(text)
        await self.run(b";".join(batch))

    async def run(self, sql: bytes) -> Sequence[Record]:
        """The rows of the last statement of this text."""
        cursor = self._cursor
        await cursor.execute(sql)
        while await cursor.nextset():
            continue
        rows: Sequence[Record] = await cursor.fetchall()
        return rows

    def literal(self, value: object) -> bytes:
        """This value in SQL. Raises UnicodeEncodeError for text that UTF-8 cannot encode."""
        if value is None:
            return b"NULL"
        if isinstance(value, int):
            return b"%d" % value
        if isinstance(value, bytes):
            return b"x'%b'" % value.hex().encode()
        return self.connection.literal(value).encode("utf-8")

    async def _leap(self, statement: Statement, parameters: list[Any]) -> list[Record]:
        assert statement.leap is not None
        found: list[Record] = []
        last = ""
        while True:
            given = [*parameters[: statement.leap], last, *parameters[statement.leap :]]
            records = await self.run(statement.text(given, self.literal))
            if not records:
                return found
            found += records
            last = records[0][0]
