"""The five stores as the conformance suite gets them, and how their servers are harmed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio.to_thread
import servers
from proxy import Proxy, every
from server_fixtures import required
from servers import Server

from taskweave.testing.places import MakeStore, maker_at

KINDS = ("memory", "sqlite", "postgres", "redis", "mariadb")
SERVERS = KINDS[2:]
NAMES = {"memory": "memory", "sqlite": "SQLite", "postgres": "PostgreSQL", "redis": "Redis", "mariadb": "MariaDB"}
CUT_EACH, CUTS = 3, 8  # each third request, until so many were cut: some of them end a transaction
FOLDER = "/dev/shm" if Path("/dev/shm").is_dir() else "/tmp"


def maker_of(kind: str) -> MakeStore:
    """Stores of this kind; skips the test where there is no server, and fails it in continuous integration."""
    if kind == "memory":
        return maker_at("memory://")
    if kind == "sqlite":
        return maker_at(f"sqlite:///{FOLDER}/taskweave-{os.getpid()}.db")
    required(kind)
    return maker_at(servers.shared(kind).url())


class Harmed:
    """Stores behind a proxy, on a server of their own that may be killed: the hooks of the level faults."""

    def __init__(self, server: Server, proxy: Proxy) -> None:
        self.server, self.proxy = server, proxy
        self.make = maker_at(proxy.url(server.url()))

    def __call__(self, namespace: str) -> Any:
        return self.make(namespace)

    async def restart(self) -> None:
        await anyio.to_thread.run_sync(self.server.restart)

    async def kill(self) -> None:
        await anyio.to_thread.run_sync(self.server.kill)
        await anyio.to_thread.run_sync(self.server.restart)

    async def cut_before(self) -> None:
        self.proxy.plan = every(CUT_EACH, "before", most=CUTS)

    async def cut_after(self) -> None:
        self.proxy.plan = every(CUT_EACH, "after", most=CUTS)


@contextmanager
def harmed(kind: str) -> Iterator[Harmed]:
    """A durable server of this kind behind a proxy."""
    required(kind, private=True)
    with servers.private(kind, durable=True) as server, Proxy(server) as proxy:
        yield Harmed(server, proxy)
