"""A transaction of the user's on the store's own server, from the loop that uses it: `store.transaction()`.

It is a connection of the store's own for as long as its block lasts. Each statement crosses to the driver's side by
itself, since the user decides what comes next. What must not be torn (the beginning, the commit, the rollback) crosses
as a whole and is shielded, with a deadline, by the store.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol, TypeVar

from taskweave._bridge import Bridge
from taskweave.abc import Record
from taskweave.core.verbs import Op
from taskweave.exceptions import StoreError, TransactionMisused

A = TypeVar("A")

Finish = Callable[[Callable[[], Awaitable[None]]], Awaitable[None]]


class Block(Protocol):
    """One transaction on the driver's side of the bridge."""

    async def begin(self) -> None: ...

    async def execute(self, sql: str, args: Sequence[Any]) -> int | None: ...

    async def fetch(self, sql: str, args: Sequence[Any]) -> list[Record]: ...

    async def apply(self, op: Op[A]) -> A: ...

    async def commit(self) -> None:
        """Raises StoreError."""
        ...

    async def rollback(self) -> None:
        """Undo it, whatever state it is in; the connection is given back, or cut."""
        ...


class ServerTransaction:
    """A StoreTransaction on one connection; see `abc.StoreTransaction`."""

    def __init__(self, bridge: Bridge, block: Block) -> None:
        self._bridge, self._block = bridge, block
        self.applied: list[tuple[Op[Any], Any]] = []  # ops and their answers, for those who listen

    async def execute(self, sql: str, *args: Any) -> int | None:
        return await self._bridge.run(self._block.execute, sql, args)

    async def fetch(self, sql: str, *args: Any) -> list[Record]:
        return await self._bridge.run(self._block.fetch, sql, args)

    async def apply(self, op: Op[A]) -> A:
        answer = await self._bridge.run(self._block.apply, op)
        self.applied.append((op, answer))
        return answer


def transaction(bridge: Bridge, block: Block, finish: Finish) -> AbstractAsyncContextManager[ServerTransaction]:
    """The block around this transaction; `finish` runs what must not be torn, and bounds it."""
    return _transaction(bridge, block, finish)


@asynccontextmanager
async def _transaction(bridge: Bridge, block: Block, finish: Finish) -> AsyncGenerator[ServerTransaction]:
    try:
        await finish(block.begin)  # drivers do not take it well when they are cancelled while they connect
        tx = ServerTransaction(bridge, block)
        yield tx
    except BaseException as error:
        try:
            await finish(block.rollback)
        except StoreError as late:
            error.add_note(
                f"its rollback was not answered ({late}); the server undoes it when it sees the connection gone"
            )
        raise
    await finish(block.commit)


def undone_before(error: BaseException) -> TransactionMisused:
    """The error for a transaction that the server only undoes any more, since a statement in it has failed."""
    misused = TransactionMisused(
        f"an earlier statement has failed, and so has its whole transaction ({error})",
        "let the error of a statement leave the block, or put the statement between SAVEPOINT and ROLLBACK TO",
    )
    misused.__cause__ = error
    return misused
