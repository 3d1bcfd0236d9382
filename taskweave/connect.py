"""The composition root: a store from its address. The adapter, and with it its driver, is imported when it is made."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Final, TypeAlias
from urllib.parse import unquote, urlsplit

from taskweave.abc import TaskStore
from taskweave.core.bounds import PAYLOAD_BYTES_MAX
from taskweave.core.ids import Duration
from taskweave.exceptions import InvalidStoreUrl, MissingExtra

Make: TypeAlias = Callable[[int], TaskStore]  # from the largest payload that it takes, in bytes
Scheme: TypeAlias = Callable[[str, bool, Duration | None], Make]


def connect(
    url: str, *, payload_bytes_max: int = PAYLOAD_BYTES_MAX, create: bool = True, aging: Duration | None = None
) -> TaskStore:
    """Return the unopened store at this address. Raises InvalidStoreUrl.

    `memory://` is a store of this process; `sqlite:///relative.db` and `sqlite:////absolute.db` are files;
    `postgres://`, `mysql://` and `redis://user:password@host:port/database?namespace=taskweave` are servers. Without
    `create`, opening a store that is not there raises StoreMissing and leaves nothing behind. `aging` becomes a setting
    of the store when it opens; None leaves it.
    """
    return opener(url, create=create, aging=aging)(payload_bytes_max)


def opener(url: str, *, create: bool = True, aging: Duration | None = None) -> Make:
    """Check the address now; what it returns makes the store, and imports its adapter. Raises InvalidStoreUrl."""
    if not isinstance(url, str):
        raise InvalidStoreUrl(repr(url)[:80], "it is not text")
    if not url.isprintable():  # urlsplit would drop line ends and tabs in silence
        raise InvalidStoreUrl(_redacted(url), "it has control or unprintable characters")
    scheme, found, _ = url.partition("://")
    make = _SCHEMES.get(scheme)
    if not found or make is None:
        raise InvalidStoreUrl(_redacted(url), f"there is no store for {scheme!r}" if found else "it has no scheme")
    return make(url, create, aging)


def _memory(url: str, create: bool, aging: Duration | None) -> Make:
    if url != "memory://":
        raise InvalidStoreUrl(url[:200], "a memory store has no name, and is not shared between processes")

    def make(payload_bytes_max: int) -> TaskStore:
        from taskweave.stores.memory import MemoryTaskStore

        return MemoryTaskStore(payload_bytes_max=payload_bytes_max, aging=aging)

    return make


def _sqlite(url: str, create: bool, aging: Duration | None) -> Make:
    parts = urlsplit(url)
    path = unquote(parts.path)[1:]
    if parts.netloc:
        raise InvalidStoreUrl(_redacted(url), f"a file has no host; write sqlite:///{parts.netloc}{parts.path}")
    if parts.query or parts.fragment:
        raise InvalidStoreUrl(_redacted(url), "it has a query; a path with ? or # is written with %3F or %23")
    if not path or path.endswith("/") or not path.isprintable():
        raise InvalidStoreUrl(_redacted(url), "it names no file")

    def make(payload_bytes_max: int) -> TaskStore:
        from taskweave.stores.sqlite import SQLiteTaskStore

        return SQLiteTaskStore(path, payload_bytes_max=payload_bytes_max, create=create, aging=aging)

    return make


def _server(extra: str, driver: str, name: str) -> Scheme:
    """Stores on a server: the adapter checks its address itself, so that its rules stand in one place."""

    def of(url: str, create: bool, aging: Duration | None) -> Make:
        if find_spec(driver) is None:
            raise MissingExtra(f"a store at {_redacted(url)}", extra)
        adapter = getattr(import_module(f"taskweave.stores.{extra}"), name)
        adapter(url)  # refuses a wrong address now, not when the first job is enqueued

        def make(payload_bytes_max: int) -> TaskStore:
            store: TaskStore = adapter(url, payload_bytes_max=payload_bytes_max, create=create, aging=aging)
            return store

        return make

    return of


def _redacted(url: str) -> str:
    """An address fit for a message: without the password that a mistaken one may hold."""
    scheme, found, rest = url.partition("://")
    secret, at, place = rest.rpartition("@")
    return f"{scheme}{found}{'***@' if at and secret else ''}{place}"[:200]


_postgres = _server("postgres", "asyncpg", "PostgresTaskStore")
_mysql = _server("mysql", "asyncmy", "MySQLTaskStore")
_redis = _server("redis", "redis", "RedisTaskStore")

_SCHEMES: Final[dict[str, Scheme]] = {
    "memory": _memory,
    "sqlite": _sqlite,
    "postgres": _postgres,
    "postgresql": _postgres,
    "mysql": _mysql,
    "mariadb": _mysql,
    "redis": _redis,
    "rediss": _redis,
}
