"""Statements by name on one connection of asyncmy that is inside a transaction: what the shared verbs speak to.

Rules
  literals    parameters become literals in the text. Bytes are written in hexadecimal, which means the same in every
              sql_mode; texts are escaped by the driver and then encoded strictly, so that what UTF-8 cannot say is
              refused and never sent
  batches     a round trip costs more than most statements. Where the connection takes several statements in one text
              (`batches`), writes wait for the next read and are sent before it in the same text, and the commit may
              ride on the last; the server runs them in order, and stops at the first that fails
  store time  waiting for a lock takes time, and what is seen then is later than the clock was. So each locking read
              brings the clock with it, and the turn goes on from there: no effect of an op is older than what it saw
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, Final

from taskweave.stores._mysql.driver import Connection, errors
from taskweave.stores._mysql.statements import Statement
from taskweave.stores._server.rows import RUNNING, SUCCEEDED, Record
from taskweave.stores._server.turn import Ask, Counted, Link, Turn

TOO_LARGE: Final = 1153
BYTES_MAX: Final = 1 << 20  # of one text, if the server takes that much; a row may be longer


class MySQLLink(Link):
    """A Link (`_server.turn`) over this connection; begins no transaction, and ends it only if it `commits`."""

    def __init__(
        self,
        connection: Connection,
        statements: Mapping[str, Statement],
        bytes_max: int = BYTES_MAX,
        *,
        packet_max: int | None = None,
        batches: bool = False,
        commits: bool = False,
    ) -> None:
        self.connection = connection
        self.statements = statements
        self.bytes_max = bytes_max
        self.packet_max = packet_max
        self.batches = batches
        self.commits = commits
        self.committing = False  # the commit has been sent
        self.turn: Turn | None = None  # whose time moves on with the server's clock
        self._cursor = connection.cursor()
        self._waiting: list[tuple[bytes, Counted | None]] = []
        self._size = 0

    # --- the protocol -------------------------------------------------------------------------------------------------

    async def fetch(self, name: str, *parameters: Any) -> Sequence[Record]:
        (records,) = await self.fetch_all([(name, *parameters)])
        return records

    async def fetch_all(self, asks: Sequence[Ask]) -> list[Sequence[Record]]:
        return await self._fetch(asks)

    async def fetch_last(self, asks: Sequence[Ask]) -> list[Sequence[Record]]:
        if not self.commits:
            return await self._fetch(asks)
        self.commits, self.committing = False, True
        return await self._fetch(asks, b"COMMIT")

    async def execute(self, name: str, *parameters: Any) -> int:
        await self._send(self.statements[name].texts(parameters, self.literal))
        return int(self._cursor.rowcount)

    async def write(self, name: str, *parameters: Any) -> None:
        for text in self.statements[name].texts(parameters, self.literal):
            await self.later(text)

    async def write_counted(self, name: str, *parameters: Any) -> Counted:
        counted = Counted()
        (text,) = self.statements[name].texts(parameters, self.literal)
        if not self.batches:
            return Counted(await self.execute(name, *parameters))
        await self.later(text, counted)
        return counted

    async def flush(self) -> None:
        if self._waiting:
            await self._send(())

    async def many(self, name: str, records: Sequence[Record]) -> None:
        for text in self.statements[name].of_many(records, self.literal, self.bytes_max):
            await self.later(text)

    # --- texts --------------------------------------------------------------------------------------------------------

    async def run(self, sql: bytes) -> Sequence[Record]:
        """The rows of this one statement, sent alone."""
        self._check_size(sql)
        await self._cursor.execute(sql)
        return await self._cursor.fetchall()

    async def later(self, text: bytes, counted: Counted | None = None) -> None:
        """Run this with the next statement, or now if batches are not taken or it would become too long."""
        if self._size + len(text) > self.bytes_max:
            await self._send(())
        if not self.batches:
            await self.run(text)
            return
        self._waiting.append((text, counted))
        self._size += len(text)

    async def commit(self) -> None:
        """Send what waits, and the commit, unless it has ridden on the last read."""
        if self.commits:
            self.commits, self.committing = False, True
            await self._send((b"COMMIT",))

    async def _send(self, texts: Sequence[bytes]) -> list[Sequence[Record]]:
        """Run what waits and then these; the rows of each statement that has some (of each of these, if one by one)."""
        if not self.batches:
            return [await self.run(text) for text in texts]
        counts = [counted for _, counted in self._waiting]
        sql = b";".join([*(text for text, _ in self._waiting), *texts])
        self._waiting, self._size = [], 0
        found: list[Sequence[Record]] = []
        if not sql:
            return found
        self._check_size(sql)
        cursor = self._cursor
        await cursor.execute(sql)
        for place in count():
            if cursor.description is not None:
                found.append(await cursor.fetchall())
            elif place < len(counts) and (counted := counts[place]) is not None:
                counted.rows = int(cursor.rowcount)
            if not await cursor.nextset():
                break
        return found

    def _check_size(self, sql: bytes) -> None:
        """Refuse what the server would not take: it would only hang up. Raises the error that it has for that."""
        if self.packet_max is not None and len(sql) >= self.packet_max:
            raise errors.OperationalError(TOO_LARGE, f"{len(sql):,} bytes, more than {self.packet_max:,}")

    def literal(self, value: object) -> bytes:
        """This value in SQL. Raises UnicodeEncodeError for text that UTF-8 cannot encode."""
        if value is None:
            return b"NULL"
        if isinstance(value, int):
            return b"%d" % value
        if isinstance(value, bytes):
            return b"x'%b'" % value.hex().encode()
        return self.connection.literal(value).encode("utf-8")

    async def _fetch(self, asks: Sequence[Ask], *then: bytes) -> list[Sequence[Record]]:
        statements = [self.statements[_exact(name, parameters)] for name, *parameters in asks]
        if any(statement.leap is not None for statement in statements):
            return [await self._leap(each, ask[1:]) for each, ask in zip(statements, asks, strict=True)]
        texts = [
            text
            for statement, (_, *parameters) in zip(statements, asks, strict=True)
            for text in statement.texts(parameters, self.literal)
        ]
        turn = self.turn if any(statement.locks for statement in statements) else None
        if turn is not None:
            texts += self.statements["clock"].texts((), self.literal)
        found = await self._send([*texts, *then])
        if turn is not None:
            turn.now = max(turn.now, found.pop()[0][0])
        return found

    async def _leap(self, statement: Statement, parameters: Sequence[Any]) -> list[Record]:
        place = statement.leap
        assert place is not None
        found: list[Record] = []
        last = ""
        while True:
            (records,) = await self._send(
                statement.texts([*parameters[:place], last, *parameters[place:]], self.literal)
            )
            if not records:
                return found
            found += records
            last = records[0][0]


def _exact(name: str, parameters: Sequence[Any]) -> str:
    """Rare states are found in ways of their own, and so by other statements."""
    if name != "find":
        return name
    states = parameters[1]
    return "find_ended" if min(states) > SUCCEEDED else "find_running" if states == [RUNNING] else "find"
