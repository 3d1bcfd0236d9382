"""Ops as transactions, on the driver's side of the bridge: begun, repeated where two met, committed, or undone.

Everything here runs as one asyncio task for each op. A cancelled task leaves its connection rolled back or cut, never
inside a transaction. What is known of an op that failed is told by where it failed: before its commit was sent,
nothing has happened.
"""

from __future__ import annotations

from typing import Any, Final

import anyio
from attrs import define, field

from taskweave.core.ids import Micros
from taskweave.core.verbs import Op
from taskweave.stores._postgres.driver import Connection
from taskweave.stores._postgres.errors import MET, STALE_PLAN, converted, is_driver_error, sqlstate
from taskweave.stores._postgres.link import PostgresLink
from taskweave.stores._postgres.pool import Pool, begin_sql
from taskweave.stores._postgres.schema import drop
from taskweave.stores._postgres.statements import statements
from taskweave.stores._server.turn import begin
from taskweave.stores._server.verbs import READS, WRITES, Verb

TRIES_MAX: Final = 8  # of a transaction that meets others
PAUSE_S: Final = 0.002  # before the second try; doubled for each further one
READING: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
WRITING: Final = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"


@define(eq=False)
class Session:
    """What an open store has on the driver's side."""

    pool: Pool
    url: str
    payload_bytes_max: int
    statements: dict[str, str] = field(init=False)
    retries: int = 0  # transactions that were repeated because they met another

    def __attrs_post_init__(self) -> None:
        self.statements = statements(self.pool.address.namespace)

    async def apply(self, op: Op[Any], at: Micros | None) -> Any:
        """The answer to this op. Raises StoreError, InvalidInput."""
        verb = WRITES.get(type(op))
        if verb is None:
            return await self._patiently(READING, READS[type(op)], op, at)
        return await self._patiently(WRITING, verb, op, at)

    async def drop(self) -> None:
        """Remove everything of the namespace. Raises StoreError."""
        connection = await self.pool.take()
        try:
            await drop(connection, self.pool.address.namespace)
        except BaseException as error:
            await self.pool.give_up(connection)
            if is_driver_error(error):
                raise converted(error, self.url, committing=True) from error
            raise
        self.pool.give_back(connection)

    async def _patiently(self, kind: str, verb: Verb, op: Op[Any], at: Micros | None) -> Any:
        for turn in range(TRIES_MAX):
            attempt = _Attempt(self, kind)
            try:
                return await attempt.run(verb, op, at)
            except Exception as error:
                if turn + 1 < TRIES_MAX and sqlstate(error) in MET | STALE_PLAN and not attempt.committing:
                    self.retries += 1
                elif is_driver_error(error):
                    raise converted(error, self.url, committing=attempt.committing) from error
                else:
                    raise
            await anyio.sleep(PAUSE_S * 2**turn * (1 + attempt.server_pid % 8 / 8))
        raise AssertionError("the last turn returns or raises")


class _Attempt:
    """One try of one op in one transaction."""

    def __init__(self, session: Session, kind: str) -> None:
        self.session = session
        self.begin = begin_sql(kind, pooled=session.pool.pooled)
        self.committing = False
        self.server_pid = 0  # differs between those that met, so that they do not meet again

    async def run(self, verb: Verb, op: Op[Any], at: Micros | None) -> Any:
        pool = self.session.pool
        connection = await pool.take()
        self.server_pid = connection.get_server_pid()
        try:
            answer = await self._transaction(connection, verb, op, at)
        except BaseException:
            await pool.give_up(connection)
            raise
        pool.give_back(connection)
        return answer

    async def _transaction(self, connection: Connection, verb: Verb, op: Op[Any], at: Micros | None) -> Any:
        session = self.session
        await connection.execute(self.begin)
        turn = await begin(
            PostgresLink(connection, session.statements),
            at,
            payload_bytes_max=session.payload_bytes_max,
            url=session.url,
        )
        answer = await verb(turn, op)
        self.committing = True
        await connection.execute("COMMIT")
        return answer
