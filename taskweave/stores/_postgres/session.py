"""Ops as transactions, on the driver's side of the bridge: begun, repeated where two met, committed, or undone.

Everything here runs as one asyncio task for each op. A cancelled task leaves its connection rolled back or cut, never
inside a transaction. What is known of an op that failed is told by where it failed: before its commit was sent,
nothing has happened.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import anyio
from attrs import define, field

from taskweave.core.ids import Micros
from taskweave.core.job import Job
from taskweave.core.verbs import Count, Enqueue, Exchange, Load, Op, Settlement
from taskweave.stores._postgres import hot
from taskweave.stores._postgres.driver import Connection
from taskweave.stores._postgres.errors import AGAIN, converted, is_driver_error, sqlstate, was_undone
from taskweave.stores._postgres.heads import Heads
from taskweave.stores._postgres.inspect import facts, problems
from taskweave.stores._postgres.link import PostgresLink
from taskweave.stores._postgres.notices import Notices
from taskweave.stores._postgres.pool import Pool, begin_sql
from taskweave.stores._postgres.schema import drop
from taskweave.stores._postgres.statements import statements
from taskweave.stores._server.read import loaded
from taskweave.stores._server.rows import Record
from taskweave.stores._server.turn import Turn, begin
from taskweave.stores._server.verbs import READS, WRITES, Verb
from taskweave.stores.wakeups import touched

TRIES_MAX: Final = 8  # of a transaction that meets others
PAUSE_S: Final = 0.002  # before the second try; doubled for each further one
READING: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
WRITING: Final = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
UNHURRIED: Final = "SET LOCAL statement_timeout = 0"
# What reads every row does so in the order of the disk; by an index it takes ten times as long.
COUNTING: Final = f"{READING}; SET LOCAL enable_seqscan = on"


@define(eq=False)
class Session:
    """What an open store has on the driver's side."""

    pool: Pool
    url: str
    payload_bytes_max: int
    notices: Notices | None = None  # None where nothing would hear them
    statements: dict[str, str] = field(init=False)
    heads: Heads = field(factory=Heads)
    retries: int = 0  # transactions that were repeated because they met another

    def __attrs_post_init__(self) -> None:
        self.statements = statements(self.pool.address.namespace)

    async def apply(self, op: Op[Any], at: Micros | None) -> Any:
        """The answer to this op. Raises StoreError, InvalidInput."""
        answer = await self._answer(op, at)
        if self.notices is not None:
            self.notices.tell(touched(op, answer))
        return answer

    async def _answer(self, op: Op[Any], at: Micros | None) -> Any:
        match op:
            case Load() if not self.pool.pooled:
                return await self._patiently(loading(op))
            case Exchange():
                plain = hot.plain_part(op)
                if plain is None:
                    return await self._patiently(writing(hot.exchange, op, at))
                return hot.exchanged(op, plain, await self._exchange(op, plain, at))
            case Enqueue() if hot.is_plain(op):
                parameters = hot.enqueued_by(op, at, self.payload_bytes_max)
                return hot.enqueued(op, await self._patiently(calling("enqueue", parameters)))
            case _:
                verb = WRITES.get(type(op))
                if verb is None:
                    return await self._patiently(reading(READS[type(op)], op, at))
                return await self._patiently(writing(verb, op, at))

    async def _exchange(self, op: Exchange, plain: Sequence[Settlement], at: Micros | None) -> Sequence[Record]:
        """One call; its claim begins where dead rows let it."""
        sent = anyio.current_time()
        begun = self.heads.begin(sent) if self.heads.places and op.want > 0 else {}
        call = calling("exchange", hot.exchanged_by(op, at, plain, begun))
        records: Sequence[Record] = await self._patiently(call)
        if op.want > 0:
            now = anyio.current_time()
            entries, reached = hot.reached(records)
            self.heads.read(bool(begun), entries, reached, now, now - sent)
        return records

    async def fill(self) -> None:
        """One more connection for those that come. Raises StoreError."""
        try:
            await self.pool.fill()
        except Exception as error:
            if is_driver_error(error):
                raise converted(error, self.url) from error
            raise

    async def facts(self) -> dict[str, Any]:
        """What is worth knowing about the server and the schema. Raises StoreError."""
        known = await self._patiently(looking(facts))
        return {**known, "pool_size": self.pool.size, "connections_made": self.pool.opened, "retries": self.retries}

    async def check(self) -> list[str]:
        """What is wrong with the schema or the rows. Raises StoreError."""
        found: list[str] = await self._patiently(looking(problems))
        return found

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

    async def _patiently(self, steps: Steps) -> Any:
        for turn in range(TRIES_MAX):
            attempt = Attempt(self)
            try:
                return await attempt.run(steps)
            except Exception as error:
                if turn + 1 < TRIES_MAX and sqlstate(error) in AGAIN and was_undone(error):
                    self.retries += 1
                elif is_driver_error(error):
                    raise converted(error, self.url, committing=attempt.committing) from error
                else:
                    raise
            await anyio.sleep(PAUSE_S * 2**turn * (1 + attempt.server_pid % 8 / 8))
        raise AssertionError("the last turn returns or raises")


class Attempt:
    """One try of one op on one connection."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.committing = False
        self.server_pid = 0  # differs between those that met, so that they do not meet again

    async def run(self, steps: Steps) -> Any:
        pool = self.session.pool
        connection = await pool.take()
        self.server_pid = connection.get_server_pid()
        try:
            answer = await steps(self, connection)
        except BaseException:
            await pool.give_up(connection)
            raise
        pool.give_back(connection)
        return answer

    async def begin(self, connection: Connection, kind: str, at: Micros | None) -> Turn:
        session = self.session
        await connection.execute(begin_sql(kind, pooled=session.pool.pooled))
        link = PostgresLink(connection, session.statements)
        return await begin(link, at, payload_bytes_max=session.payload_bytes_max, url=session.url)

    async def commit(self, connection: Connection) -> None:
        self.committing = True
        await connection.execute("COMMIT")


Steps = Callable[[Attempt, Connection], Awaitable[Any]]


def writing(verb: Verb, op: Op[Any], at: Micros | None) -> Steps:
    """A verb that writes."""

    async def steps(attempt: Attempt, connection: Connection) -> Any:
        answer = await verb(await attempt.begin(connection, WRITING, at), op)
        await attempt.commit(connection)
        return answer

    return steps


def reading(verb: Verb, op: Op[Any], at: Micros | None) -> Steps:
    """A verb that reads, at one snapshot."""

    async def steps(attempt: Attempt, connection: Connection) -> Any:
        kind = COUNTING if type(op) is Count else READING
        answer = await verb(await attempt.begin(connection, kind, at), op)
        await connection.execute("COMMIT")
        return answer

    return steps


def loading(op: Load) -> Steps:
    """Jobs by id: one statement, which is a snapshot of its own."""

    async def steps(attempt: Attempt, connection: Connection) -> tuple[Job | None, ...]:
        if not op.ids:
            return ()
        return loaded(op, await connection.fetch(attempt.session.statements["load"], list(dict.fromkeys(op.ids))))

    return steps


def looking(look: Callable[[Connection, str], Awaitable[Any]]) -> Steps:
    """A look at the store itself, for as long as it takes."""

    async def steps(attempt: Attempt, connection: Connection) -> Any:
        pool = attempt.session.pool
        await connection.execute(f"{begin_sql(READING, pooled=pool.pooled)}; {UNHURRIED}")
        answer = await look(connection, pool.address.namespace)
        await connection.execute("COMMIT")
        return answer

    return steps


def calling(name: str, parameters: Sequence[Any]) -> Steps:
    """One call of a function that is its own transaction; behind a pooler it needs one around it."""

    async def steps(attempt: Attempt, connection: Connection) -> Sequence[Record]:
        sql = attempt.session.statements[name]
        if not attempt.session.pool.pooled:
            attempt.committing = True
            return await connection.fetch(sql, *parameters)
        await connection.execute(begin_sql(WRITING, pooled=True))
        answer = await connection.fetch(sql, *parameters)
        await attempt.commit(connection)
        return answer

    return steps
