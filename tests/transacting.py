"""What the tests of transactions share: a store with a table of the user's own beside its jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import pytest
from attrs import define

from taskweave.abc import TaskStore, Transacts
from taskweave.connect import connect

MARK = {"sqlite": "?", "postgres": "$1", "mysql": "%s"}


@define
class Ledger:
    """A table of the user's in the store's database: one row for each effect of a job."""

    store: TaskStore
    kind: str
    table: str
    address: str = ""

    @property
    def insert(self) -> str:
        return f"INSERT INTO {self.table} (n) VALUES ({MARK[self.kind]})"

    async def run(self, sql: str, *args: Any) -> list[Any]:
        assert isinstance(self.store, Transacts)
        async with self.store.transaction() as tx:
            if sql.startswith("SELECT"):
                return [tuple(row) for row in await tx.fetch(sql, *args)]
            await tx.execute(sql, *args)
            return []

    async def rows(self) -> list[int]:
        """What was committed, in order."""
        return [n for (n,) in await self.run(f"SELECT n FROM {self.table} ORDER BY n")]


def address(kind: str, folder: Path, shared_server: Callable[[str], Any]) -> str:
    if kind == "sqlite":
        return f"sqlite:///{folder}/jobs.db"
    return str(shared_server(kind).url(f"tx_{uuid4().hex[:12]}"))


async def define_in(store: TaskStore, kind: str, url: str, sql: str) -> None:
    """Change the schema of the user's tables; on MySQL that is nothing for a transaction."""
    if kind != "mysql":
        assert isinstance(store, Transacts)
        async with store.transaction() as tx:
            await tx.execute(sql)
        return
    pymysql: Any = pytest.importorskip("pymysql")
    parts = urlsplit(url)
    connection = pymysql.connect(
        host=parts.hostname,
        port=parts.port,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or "").encode(),
        database=unquote(parts.path[1:]),
    )
    with connection, connection.cursor() as cursor:
        cursor.execute(sql)


@asynccontextmanager
async def ledger_at(url: str, kind: str) -> AsyncIterator[Ledger]:
    """An open store there, with an empty ledger; both are gone at the end."""
    table = f"ledger_{uuid4().hex[:12]}"
    async with connect(url) as store:
        ledger = Ledger(store, kind, table, url)
        try:
            await define_in(ledger.store, kind, url, f"CREATE TABLE {table} (n INTEGER NOT NULL)")
            yield ledger
        finally:
            if kind != "sqlite":
                await define_in(ledger.store, kind, url, f"DROP TABLE {table}")
                await store.drop()  # type: ignore[attr-defined]  # an ability of stores on servers
