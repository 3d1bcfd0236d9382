"""A transaction of the user's on the store's own file, from the loop that uses it: `SQLiteTaskStore.transaction`.

Rules
  lock       it holds the file's write lock from its first moment, so all other writers, of this process too, wait:
             in turns, as they wait for each other. Reads go on
  one        of a store's transactions is open at a time, the others stand in a queue; the store's own ops wait for that
             one and not for those in the queue, and it for them: handing the file over takes no time, trying again does
  cancelled  a statement that runs is interrupted, and the rollback is waited for; a commit is not cancelled
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol, TypeVar

import anyio

from taskweave.abc import Record
from taskweave.core.verbs import Op
from taskweave.exceptions import StoreError
from taskweave.stores._sqlite.connection import StoreConnection
from taskweave.stores._sqlite.inside import Block

A = TypeVar("A")
T = TypeVar("T")


class Line(Protocol):
    """The connection that transactions of one store take turns on."""

    async def ask(self, function: Callable[[StoreConnection], T]) -> T:
        """Run it in the connection's thread; a caller that is cancelled leaves it behind."""
        ...

    async def finish(self, function: Callable[[StoreConnection], T]) -> T:
        """Run it there whatever becomes of the caller, within the store's deadline. Raises StoreError."""
        ...

    async def interrupt(self) -> None:
        """Have the statement that runs there fail."""
        ...

    async def give_up(self) -> None:
        """Nobody knows what state the connection is in: the next transaction takes another one."""
        ...


class SQLiteTransaction:
    """A StoreTransaction on one connection; see `abc.StoreTransaction`."""

    def __init__(self, line: Line, block: Block) -> None:
        self._line, self._block = line, block
        self.applied: list[tuple[Op[Any], Any]] = []  # ops and their answers, for those who listen

    async def execute(self, sql: str, *args: Any) -> int | None:
        return await self._line.ask(lambda connection: self._block.execute(connection, sql, args))

    async def fetch(self, sql: str, *args: Any) -> list[Record]:
        return await self._line.ask(lambda connection: self._block.fetch(connection, sql, args))

    async def apply(self, op: Op[A]) -> A:
        answer = await self._line.ask(lambda connection: self._block.apply(connection, op))
        self.applied.append((op, answer))
        return answer


class Transacting:
    """The transactions of one open store, one after the other."""

    def __init__(self, open_line: Callable[[], Awaitable[Line]]) -> None:
        self.file = anyio.Lock(fast_acquire=True)  # held by whoever writes in this store
        self._open_line = open_line
        self._turn = anyio.Lock()

    def block(self) -> AbstractAsyncContextManager[SQLiteTransaction]:
        return self._block()

    @asynccontextmanager
    async def _block(self) -> AsyncGenerator[SQLiteTransaction]:
        async with self._turn, self.file:
            line, block = await self._open_line(), Block()
            try:
                await line.ask(block.begin)
                tx = SQLiteTransaction(line, block)
                yield tx
            except BaseException:
                await _rolled_back(line, block)
                raise
            try:
                await line.finish(block.commit)
            except StoreError as error:
                if error.applied == "unknown":
                    await line.give_up()
                raise
            except BaseException:
                await _rolled_back(line, block)
                raise


async def _rolled_back(line: Line, block: Block) -> None:
    """Undo what was written. Whatever goes wrong here, nothing was committed: the connection is not used again."""
    block.given_up = True
    with anyio.CancelScope(shield=True):
        await line.interrupt()
        try:
            await line.finish(block.rollback)
        except StoreError:
            await line.give_up()
