"""The connections of one store, on the driver's side of the bridge; the caller's side decides how many are in use.

asyncmy has a pool, and this is not it: a connection comes back as it is, without a round trip to reset it. Ops leave
nothing behind but what their transaction leaves, and one whose op failed comes back only after a rollback that the
server has answered.

A cancelled statement is the hard case. The driver closes its connection, but the server goes on with the statement and
keeps its locks until it ends. So the server is told by a second connection to end the first. KILL CONNECTION and not
KILL QUERY: nobody reads what that session would still say, and between two statements there is no query to kill. Should
that fail too, `max_statement_time` ends the statement a moment later.
"""

from __future__ import annotations

from typing import Any, Final

import anyio

from taskweave.stores._mysql.address import Address
from taskweave.stores._mysql.driver import Connection, asyncmy, errors
from taskweave.stores._mysql.errors import errno

CONNECT_DEADLINE_S: Final = 5
ROLLBACK_DEADLINE_S: Final = 1.0
KILL_DEADLINE_S: Final = 2.0
CLOSE_DEADLINE_S: Final = 2.0
NO_SUCH_SESSION: Final = 1094
# A worker that is frozen between two statements keeps its locks from everybody. More than half of the default lease,
# which a transaction of the user's may last.
IDLE_TRANSACTION_MAX_S: Final = 20
STATEMENT_MAX_S: Final = 9.5  # less than the deadline of a call, so that no statement outlives the caller long

SQL_MODE: Final = "'STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION'"
# Warnings of severity "note" would cost a round trip each: the driver asks for their texts.
_SETTINGS: Final = (
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    "SET NAMES utf8mb4",
    "SET SESSION time_zone = '+00:00', innodb_lock_wait_timeout = 5, sql_notes = 0, autocommit = 1",
)
_OF_MARIADB: Final = (
    f"SET SESSION max_statement_time = {STATEMENT_MAX_S}, idle_transaction_timeout = {IDLE_TRANSACTION_MAX_S}"
)
_OF_MYSQL: Final = f"SET SESSION max_execution_time = {int(STATEMENT_MAX_S * 1000)}"


class Pool:
    """Idle connections, and those in use."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.opened = 0  # connections made since the start
        self.killed = 0  # sessions that were ended on the server, because their op was given up
        self._idle: list[Connection] = []
        self._used: set[Connection] = set()
        self._closed = False

    @property
    def size(self) -> int:
        return len(self._idle) + len(self._used)

    async def take(self) -> Connection:
        """An open connection, to be given back or given up. Raises what connecting raises."""
        return self.take_idle() or await self.take_new()

    def take_idle(self) -> Connection | None:
        """One that was used before, if there is any: the server may have ended it meanwhile."""
        while self._idle:
            connection = self._idle.pop()
            if connection.connected:
                self._used.add(connection)
                return connection
        return None

    def forget_idle(self) -> None:
        """Close what is idle: one was found dead, and what ended it (a restart, a time limit) has ended the others."""
        while self._idle:
            self._idle.pop().close()

    async def take_new(self) -> Connection:
        connection = await connect(self.address)
        self.opened += 1
        self._used.add(connection)
        return connection

    def give_back(self, connection: Connection) -> None:
        self._used.discard(connection)
        if self._closed:
            connection.close()
        elif connection.connected:
            self._idle.append(connection)

    async def give_up(self, connection: Connection, *, cancelled: bool) -> None:
        """After a failure: back if the server answers to a rollback soon, else it is ended there and here."""
        if connection.connected and not cancelled:
            with anyio.move_on_after(ROLLBACK_DEADLINE_S, shield=True):
                try:
                    await run(connection, b"ROLLBACK")
                except (errors.MySQLError, OSError):
                    connection.close()  # its first error is on its way to the caller; this one says no more
                else:
                    self.give_back(connection)
                    return
            await self._kill(connection)
        elif cancelled:
            await self._kill(connection)
        self._used.discard(connection)
        connection.close()

    async def _kill(self, connection: Connection) -> None:
        """End this session on the server, so that it keeps no lock; one that cannot be told times out by itself."""
        with anyio.move_on_after(KILL_DEADLINE_S, shield=True):
            try:
                other = await self.take()
            except (errors.MySQLError, OSError):
                return  # whoever was cancelled is told that the outcome is unknown; the server's own limit is left
            try:
                await run(other, b"KILL CONNECTION %d" % connection.thread_id())
                self.killed += 1
            except (errors.MySQLError, OSError) as error:
                if errno(error) != NO_SUCH_SESSION:  # it has ended already, which is what was wanted
                    other.close()
            self.give_back(other)

    async def close(self) -> None:
        self._closed = True
        idle, self._idle = self._idle, []
        for connection in idle:
            await closed(connection)
        for connection in list(self._used):
            connection.close()
        self._used.clear()


async def closed(connection: Connection) -> None:
    """Close it, orderly if the server answers."""
    with anyio.move_on_after(CLOSE_DEADLINE_S, shield=True):
        try:
            await connection.ensure_closed()
        except (errors.MySQLError, OSError):
            connection.close()  # the other side is gone: that is an end, too
        return
    connection.close()


async def connect(address: Address) -> Connection:
    """A new connection with the settings of this store. Raises what the driver raises, TimeoutError."""
    options: dict[str, Any] = {"unix_socket": address.socket} if address.socket else {"host": address.host}
    with anyio.fail_after(CONNECT_DEADLINE_S):
        connection: Connection = await asyncmy.connect(
            **options,
            port=address.port,
            user=address.user,
            # The driver would encode a password as Latin-1, and the server compares UTF-8.
            password=(address.password or "").encode(),
            database=address.database,
            charset="utf8mb4",
            ssl=address.tls(),
            autocommit=None,
            connect_timeout=CONNECT_DEADLINE_S,
            sql_mode=SQL_MODE,
            program_name="taskweave",
        )
        limit = _OF_MARIADB if is_mariadb(connection) else _OF_MYSQL
        await run(connection, ";".join((*_SETTINGS, limit)).encode())
    return connection


def is_mariadb(connection: Connection) -> bool:
    return "mariadb" in connection.get_server_info().lower()


async def run(connection: Connection, sql: bytes) -> None:
    """Statements of which nothing is asked."""
    cursor = connection.cursor()
    await cursor.execute(sql)
    while await cursor.nextset():
        continue
