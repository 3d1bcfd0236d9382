"""Ops as transactions, on the driver's side of the bridge: begun, repeated where two met, committed, or undone.

Everything here runs as one asyncio task for each op. A cancelled task leaves its connection rolled back or its session
ended, never inside a transaction. What is known of an op that failed is told by where it failed: before its commit was
sent, nothing has happened.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

import anyio
from attrs import define, field

from taskweave.core.ids import Micros
from taskweave.core.verbs import Op
from taskweave.stores._mysql.driver import Connection
from taskweave.stores._mysql.errors import MET, converted, errno, is_driver_error, is_lost
from taskweave.stores._mysql.inspect import facts, problems
from taskweave.stores._mysql.link import BYTES_MAX, MySQLLink
from taskweave.stores._mysql.pool import Pool
from taskweave.stores._mysql.schema import drop
from taskweave.stores._mysql.statements import COLLATION, Statement, statements
from taskweave.stores._server.turn import begin
from taskweave.stores._server.verbs import READS, WRITES, Verb

T = TypeVar("T")

TRIES_MAX: Final = 12  # of a transaction that meets others
PAUSE_S: Final = 0.002  # before the second try; doubled for each further one
PAUSE_MAX_S: Final = 0.25
# A read sees one snapshot from its first statement on.
READING: Final = (
    b"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"
)
WRITING: Final = b"START TRANSACTION READ WRITE"


@define(eq=False)
class Session:
    """What an open store has on the driver's side."""

    pool: Pool
    url: str
    payload_bytes_max: int
    collation: str = COLLATION
    bytes_max: int = BYTES_MAX
    packet_max: int | None = None
    retries: int = 0  # transactions that were repeated because they met another
    statements: Mapping[str, Statement] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.statements = statements(self.pool.address.namespace, self.collation)

    async def apply(self, op: Op[Any], at: Micros | None) -> Any:
        """The answer to this op. Raises StoreError, InvalidInput."""
        verb = WRITES.get(type(op))
        if verb is None:
            return await self._patiently(READING, READS[type(op)], op, at)
        return await self._patiently(WRITING, verb, op, at)

    async def facts(self) -> dict[str, Any]:
        """What is worth knowing of the server and of this side's connections. Raises StoreError."""
        namespace, pool = self.pool.address.namespace, self.pool
        found = await self._outside(lambda connection: facts(self._link(connection), namespace))
        return {
            **found,
            "pool_size": pool.size,
            "pool_opened": pool.opened,
            "sessions_killed": pool.killed,
            "transactions_repeated": self.retries,
        }

    async def check(self) -> list[str]:
        """What is wrong with the schema or the rows. Raises StoreError."""
        namespace = self.pool.address.namespace

        async def look(connection: Connection) -> list[str]:
            link = self._link(connection)
            for text in READING.split(b"; "):
                await link.run(text)
            found = await problems(link, namespace, self.collation)
            await link.run(b"ROLLBACK")
            return found

        return await self._outside(look)

    async def drop(self) -> None:
        """Remove everything of the namespace. Raises StoreError."""
        await self._outside(lambda connection: drop(self._link(connection)), committing=True)

    async def _outside(self, work: Callable[[Connection], Awaitable[T]], *, committing: bool = False) -> T:
        """Something that is no op, on a connection of the pool."""
        try:
            connection = await self.pool.take()
            try:
                answer = await work(connection)
            except BaseException as error:
                await self.pool.give_up(connection, cancelled=not isinstance(error, Exception))
                raise
        except Exception as error:
            if is_driver_error(error):
                raise converted(error, self.url, committing=committing) from error
            raise
        self.pool.give_back(connection)
        return answer

    def _link(self, connection: Connection) -> MySQLLink:
        return MySQLLink(connection, self.statements, self.bytes_max)

    async def _patiently(self, kind: bytes, verb: Verb, op: Op[Any], at: Micros | None) -> Any:
        for turn in range(TRIES_MAX):
            attempt = _Attempt(self, kind)
            try:
                return await attempt.run(verb, op, at)
            except Exception as error:
                if turn + 1 < TRIES_MAX and attempt.reused and not attempt.committing and is_lost(error):
                    self.pool.forget_idle()
                    continue
                if turn + 1 < TRIES_MAX and errno(error) in MET:  # the server has said so, and has committed nothing
                    self.retries += 1
                elif is_driver_error(error):
                    raise converted(error, self.url, committing=attempt.committing) from error
                else:
                    raise
            await anyio.sleep(min(PAUSE_S * 2**turn, PAUSE_MAX_S) * (1 + attempt.thread_id % 16 / 16))
        raise AssertionError("the last turn returns or raises")


class _Attempt:
    """One try of one op in one transaction."""

    def __init__(self, session: Session, kind: bytes) -> None:
        self.session = session
        self.begin = kind
        self.committing = False
        self.reused = False  # its connection has been idle
        self.thread_id = 0  # differs between those that met, so that they do not meet again

    async def run(self, verb: Verb, op: Op[Any], at: Micros | None) -> Any:
        session, pool = self.session, self.session.pool
        idle = pool.take_idle()
        self.reused = idle is not None
        connection = idle or await pool.take_new()
        self.thread_id = connection.thread_id()
        link = MySQLLink(
            connection,
            session.statements,
            session.bytes_max,
            packet_max=session.packet_max,
            batches=True,
            commits=True,
        )
        try:
            await link.later(self.begin)
            turn = await begin(link, at, payload_bytes_max=session.payload_bytes_max, url=session.url)
            link.turn = turn if at is None and self.begin is WRITING else None
            answer = await verb(turn, op)
            await link.commit()
        except BaseException as error:
            self.committing = link.committing
            await pool.give_up(connection, cancelled=not isinstance(error, Exception))
            raise
        pool.give_back(connection)
        return answer
