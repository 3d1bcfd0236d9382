"""asyncmy as this store sees it: the one module that imports it, and the few methods of a connection that are used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

import asyncmy as _asyncmy
from asyncmy import errors as _errors

from taskweave.stores._server.rows import Record

asyncmy: Final[Any] = _asyncmy
errors: Final[Any] = _errors


class Cursor(Protocol):
    """Runs one text, which may hold several statements, and steps through their results."""

    @property
    def rowcount(self) -> int: ...

    @property
    def description(self) -> Sequence[Any] | None: ...

    async def execute(self, query: bytes) -> object: ...

    async def nextset(self) -> bool | None: ...

    async def fetchall(self) -> Sequence[Record]: ...


class Connection(Protocol):
    """One connection to a server, used by one task at a time."""

    @property
    def connected(self) -> bool: ...

    def cursor(self) -> Cursor: ...

    def literal(self, obj: object) -> str: ...

    def thread_id(self) -> int: ...

    def get_transaction_status(self) -> bool: ...

    def get_server_info(self) -> str: ...

    async def ensure_closed(self) -> None: ...

    def close(self) -> None: ...
