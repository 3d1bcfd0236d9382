"""The test servers as pytest sees them: asked for by kind, skipped with the reason where the machine has none.

With CI=true a missing server is a failure: there a skipped test would be a promise that nobody checks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
import servers
from servers import Server

CROWD_MAX = 60


def required(kind: str, *, private: bool = False) -> None:
    """Skip the test when there is no server of this kind; fail it in continuous integration."""
    reason = servers.missing(kind, private=private)
    if reason is not None:
        (pytest.fail if os.environ.get("CI") == "true" and not servers.left_out() else pytest.skip)(reason)


@pytest.fixture(scope="session")
def shared_server() -> Callable[[str], Server]:
    """`shared_server("postgres")`: the one of this kind in this process; tests take a namespace of their own on it."""

    def ask(kind: str) -> Server:
        required(kind)
        return servers.shared(kind)

    return ask


@pytest.fixture(scope="session")
def harmed_servers() -> Iterator[dict[str, Server]]:
    started: dict[str, Server] = {}
    yield started
    for server in started.values():
        server.stop()


@pytest.fixture
def harmed_server(harmed_servers: dict[str, Server]) -> Callable[[str], Server]:
    """`harmed_server("mysql")`: one for all tests that kill, freeze or crowd it; each finds it up, its data on disk.

    It has room for CROWD_MAX connections.
    """

    def ask(kind: str) -> Server:
        required(kind, private=True)
        if kind not in harmed_servers:
            limit = {"maxclients" if kind == "redis" else "max_connections": CROWD_MAX}
            harmed_servers[kind] = servers.private(kind, durable=True, **limit)
        server = harmed_servers[kind]
        if not server.answers():
            server.restart()
        return server

    return ask


@pytest.fixture
def private_server() -> Iterator[Callable[..., Server]]:
    """`private_server("redis", appendonly="yes")`: for this test alone, which may harm it; gone when it ends."""
    started: list[Server] = []

    def ask(kind: str, *, durable: bool = False, **settings: object) -> Server:
        required(kind, private=True)
        started.append(servers.private(kind, durable=durable, **settings))
        return started[-1]

    yield ask
    for server in started:
        server.stop()
