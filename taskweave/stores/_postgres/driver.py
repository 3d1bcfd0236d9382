"""asyncpg as this store sees it: the one module that imports it, and the few methods of a connection that are used.

The driver ships no types, so what is used of it is written down here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import asyncpg as _untyped  # type: ignore[import-untyped]  # it ships no types

from taskweave.stores._server.rows import Record

asyncpg: Final[Any] = _untyped

Listening = Callable[[object, int, str, str], None]


class Connection(Protocol):
    """One connection to a server, used by one task at a time."""

    async def fetch(self, query: str, *parameters: Any) -> Sequence[Record]: ...

    async def execute(self, query: str, *parameters: Any) -> str: ...

    async def executemany(self, command: str, args: Sequence[Sequence[Any]]) -> None: ...

    async def add_listener(self, channel: str, callback: Listening) -> None: ...

    def add_termination_listener(self, callback: Callable[[object], None]) -> None: ...

    def get_server_pid(self) -> int: ...

    def is_closed(self) -> bool: ...

    def is_in_transaction(self) -> bool: ...

    async def close(self, *, timeout: float | None = None) -> None: ...

    def terminate(self) -> None: ...
