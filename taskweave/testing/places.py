"""Where the suite gets its stores from: a function that opens one on a fresh namespace, and forgets it afterwards.

A namespace is never one that may hold jobs: its name is made anew for each run, and what lies under it is removed at
the end, whatever happened in between.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, TypeAlias, cast, runtime_checkable
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import anyio

from taskweave.abc import TaskStore
from taskweave.connect import connect, opener
from taskweave.exceptions import AppNotFound

MakeStore: TypeAlias = Callable[[str], AbstractAsyncContextManager[TaskStore]]


@runtime_checkable
class Drops(Protocol):
    """A store that can remove everything that it has under its namespace."""

    async def drop(self) -> None: ...


def maker_at(url: str) -> MakeStore:
    """Stores beside the one at this address, on its server or in its folder. Raises InvalidStoreUrl."""
    opener(url)
    if url.startswith("memory:"):
        return _in_memory
    if url.startswith("sqlite:"):
        return _beside_file(unquote(urlsplit(url).path)[1:])
    return _on_server(url)


@asynccontextmanager
async def _in_memory(namespace: str) -> AsyncGenerator[TaskStore]:
    async with connect("memory://") as store:
        yield store


def _beside_file(path: str) -> MakeStore:
    @asynccontextmanager
    async def make(namespace: str) -> AsyncGenerator[TaskStore]:
        own = f"{path}.{namespace}"
        try:
            async with connect(f"sqlite:///{quote(own)}") as store:
                yield store
        finally:
            for suffix in ("", "-wal", "-shm"):
                Path(own + suffix).unlink(missing_ok=True)  # noqa: ASYNC240  # also when cancelled, and at once

    return make


def _on_server(url: str) -> MakeStore:
    parts = urlsplit(url)

    @asynccontextmanager
    async def make(namespace: str) -> AsyncGenerator[TaskStore]:
        query = urlencode(dict(parse_qsl(parts.query)) | {"namespace": namespace})
        async with connect(parts._replace(query=query).geturl()) as store:
            try:
                yield store
            finally:
                with anyio.CancelScope(shield=True):
                    if isinstance(store, Drops):
                        await store.drop()

    return make


def maker_named(target: str) -> MakeStore:
    """The function at module:attribute, or stores beside an address. Raises AppNotFound and InvalidStoreUrl."""
    if "://" in target:
        return maker_at(target)
    module, _, name = target.partition(":")
    try:
        found: Any = import_module(module)
    except ImportError as error:
        raise AppNotFound(target, f"the module cannot be imported: {error}") from error
    for part in (name or "make_store").split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise AppNotFound(target, "it names no function that makes a store")
    return cast(MakeStore, found)
