"""The connections of one store, on the driver's side of the bridge; the caller's side decides how many are in use.

asyncpg has a pool, and this is not it, because that one asks the server to reset a connection each time it comes back,
which doubles the round trips of every op. Here a connection comes back as it is: ops leave nothing behind but what
their transaction leaves, and one whose op failed comes back only after a rollback that the server has answered.
"""

from __future__ import annotations

import ssl
from typing import Any, Final

import anyio

from taskweave.stores._postgres.address import Address
from taskweave.stores._postgres.driver import Connection, asyncpg

CONNECT_DEADLINE_S: Final = 5.0
ROLLBACK_DEADLINE_S: Final = 1.0
CLOSE_DEADLINE_S: Final = 2.0
STATEMENTS_CACHED: Final = 256

# Less than the deadline of a call, so that no statement outlives the caller that gave it up. What touches a table here
# always goes by an index: statistics of a table that was empty a moment ago must not talk the planner out of it.
SETTINGS: Final = {
    "statement_timeout": "9500",
    "lock_timeout": "5000",
    "idle_in_transaction_session_timeout": "12000",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
    "search_path": "pg_catalog",
}
_SET_LOCAL: Final = "; ".join(f"SET LOCAL {name} = {value}" for name, value in SETTINGS.items())


class Pool:
    """Idle connections. `pooled`: a transaction pooler stands between, so that nothing outlives a transaction."""

    def __init__(self, address: Address, *, pooled: bool) -> None:
        self.address = address
        self.pooled = pooled
        self.opened = 0  # connections made since the start
        self._idle: list[Connection] = []
        self._used: set[Connection] = set()
        self._closed = False

    @property
    def size(self) -> int:
        return len(self._idle) + len(self._used)

    @property
    def idle(self) -> int:
        """From any thread."""
        return len(self._idle)

    async def take(self) -> Connection:
        """An open connection, to be given back or given up. Raises what connecting raises."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                self._used.add(connection)
                return connection
        connection = await self._made()
        self._used.add(connection)
        return connection

    async def fill(self) -> None:
        """One more idle connection. Raises what connecting raises."""
        self.give_back(await self._made())

    async def _made(self) -> Connection:
        connection = await connect(self.address, pooled=self.pooled)
        self.opened += 1
        return connection

    def give_back(self, connection: Connection) -> None:
        self._used.discard(connection)
        if self._closed:
            connection.terminate()
        elif not connection.is_closed():
            self._idle.append(connection)

    async def give_up(self, connection: Connection) -> None:
        """After a failure: back if the server answers to a rollback soon, else it is cut."""
        if not connection.is_closed():
            with anyio.move_on_after(ROLLBACK_DEADLINE_S, shield=True):
                try:
                    # Where a BEGIN was cancelled, only the next answer tells whether it had begun.
                    if not connection.is_in_transaction():
                        await connection.execute("SELECT 1")
                    if connection.is_in_transaction():
                        await connection.execute("ROLLBACK")
                except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                    connection.terminate()  # its first error is on its way to the caller; this one says no more
                else:
                    self.give_back(connection)
                    return
        self._used.discard(connection)
        connection.terminate()

    async def close(self) -> None:
        self._closed = True
        idle, self._idle = self._idle, []
        for connection in idle:
            await closed(connection)
        for connection in list(self._used):
            connection.terminate()
        self._used.clear()


async def closed(connection: Connection) -> None:
    """Close it, orderly if the server answers."""
    with anyio.move_on_after(CLOSE_DEADLINE_S, shield=True):
        try:
            await connection.close(timeout=CLOSE_DEADLINE_S)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
            connection.terminate()  # the other side is gone: that is an end, too
        return
    connection.terminate()


async def connect(address: Address, *, pooled: bool) -> Connection:
    """A new connection with the settings of this store. A pooler passes on no settings, and keeps no statements."""
    settings = {"application_name": address.application_name} | ({} if pooled else SETTINGS)
    connection: Connection = await asyncpg.connect(
        host=address.host,
        port=address.port,
        user=address.user,
        password=address.password,
        database=address.database,
        timeout=CONNECT_DEADLINE_S,
        ssl=tls(address),
        server_settings=settings,
        statement_cache_size=0 if pooled else STATEMENTS_CACHED,
        max_cached_statement_lifetime=0,
    )
    return connection


def begin_sql(kind: str, *, pooled: bool) -> str:
    """What begins a transaction of this kind, in one message."""
    begin, separator, settings = kind.partition(";")
    return f"{begin}; {_SET_LOCAL}{separator}{settings}" if pooled else kind


def tls(address: Address) -> Any:
    """How TLS is used: a context that verifies, what libpq calls the mode, or False."""
    mode = address.sslmode or ("prefer" if address.local else "verify-full")
    if mode == "disable":
        return False
    if mode in ("allow", "prefer"):
        return mode
    context = ssl.create_default_context(cafile=address.sslrootcert)
    context.check_hostname = mode == "verify-full"
    if mode == "require" and address.sslrootcert is None:
        context.verify_mode = ssl.CERT_NONE
    if address.sslcert is not None:
        context.load_cert_chain(address.sslcert, address.sslkey)
    return context
