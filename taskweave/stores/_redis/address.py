"""The address of a Redis store, taken apart once: where the server is, who asks, and which keys are the store's.

`shown` is the address without its secrets, for messages and logs; the password is in no repr.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from attrs import field, frozen

from taskweave.exceptions import InvalidStoreUrl, InvalidValue, UnknownOption

PORT: Final = 6379
NAMESPACE: Final = "taskweave"
POOL_MAX: Final = 10  # connections of one store
_NAMESPACE: Final = re.compile(r"[a-z_][a-z0-9_]{0,40}")
_OPTIONS: Final = ("namespace", "pool", "cluster")
_TRUE: Final = {"true": True, "false": False}


@frozen
class Address:
    host: str
    port: int
    database: int
    user: str | None
    password: str | None = field(repr=False)
    tls: bool
    cluster: bool
    namespace: str
    pool_max: int
    shown: str

    @property
    def prefix(self) -> str:
        """In front of every key; the braces keep them all in one slot of a cluster."""
        return f"{{{self.namespace}}}:"


def address_of(url: str, namespace: str | None = None, pool_max: int | None = None) -> Address:
    """Take an address apart; `namespace` and `pool_max` win over its own.

    Raises InvalidStoreUrl, UnknownOption, and InvalidValue for what was given beside it.
    """
    parts = urlsplit(url) if url.isprintable() else None
    if parts is None or parts.scheme not in ("redis", "rediss"):
        raise InvalidStoreUrl(redacted(url), "it does not begin with redis:// or rediss://")
    options = _options(parts, url)
    if namespace is not None and not _NAMESPACE.fullmatch(namespace):
        raise InvalidValue("namespace", namespace, "a small letter or _, then at most 40 of a-z, 0-9 and _")
    name = namespace if namespace is not None else options.get("namespace", NAMESPACE)
    if not _NAMESPACE.fullmatch(name):
        raise InvalidStoreUrl(redacted(url), f"{name!r} is no namespace: a small letter or _, then a-z, 0-9 and _")
    cluster = _TRUE.get(options.get("cluster", "false"))
    if cluster is None:
        raise InvalidStoreUrl(redacted(url), "cluster is true or false")
    host, port, database = _place(parts, url)
    if cluster and database:
        raise InvalidStoreUrl(redacted(url), "a cluster has but database 0")
    host_shown = f"[{host}]" if ":" in host else host
    query = f"?namespace={name}{'&cluster=true' if cluster else ''}"
    return Address(
        host,
        port,
        database,
        unquote(parts.username) if parts.username else None,
        unquote(parts.password) if parts.password else None,
        parts.scheme == "rediss",
        cluster,
        name,
        _pool(options.get("pool"), url) if pool_max is None else _checked_pool(pool_max),
        f"{parts.scheme}://{host_shown}:{port}/{database}{query}",
    )


def redacted(url: str) -> str:
    """An address fit for a message, even a mistaken one."""
    scheme, found, rest = url.partition("://")
    _, at, place = rest.rpartition("@")
    return f"{scheme}{found}{'***@' if at else ''}{place}"[:200]


def _options(parts: SplitResult, url: str) -> dict[str, str]:
    if parts.fragment:
        raise InvalidStoreUrl(redacted(url), "it has a fragment; # in a password is written %23")
    try:
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError as error:
        raise InvalidStoreUrl(redacted(url), "its query is not name=value&name=value") from error
    for name, _ in pairs:
        if name not in _OPTIONS:
            near = get_close_matches(name, _OPTIONS, 1)
            raise UnknownOption(name, f"the address {redacted(url)}", near[0] if near else None)
    if len({name for name, _ in pairs}) != len(pairs):
        raise InvalidStoreUrl(redacted(url), "an option stands there twice")
    return dict(pairs)


def _place(parts: SplitResult, url: str) -> tuple[str, int, int]:
    try:
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidStoreUrl(redacted(url), "its port is no number up to 65535") from error
    if not host:
        raise InvalidStoreUrl(redacted(url), "it names no host")
    database = parts.path.strip("/") or "0"
    if not (database.isascii() and database.isdigit() and len(database) < 6):
        raise InvalidStoreUrl(redacted(url), "its database is no number")
    return host, PORT if port is None else port, int(database)


def _pool(text: str | None, url: str) -> int:
    if text is None:
        return POOL_MAX
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= 1_000):
        raise InvalidStoreUrl(redacted(url), "pool is a number of connections from 1 to 1000")
    return int(text)


def _checked_pool(pool_max: int) -> int:
    if pool_max.__class__ is not int or not 0 < pool_max <= 1_000:
        raise InvalidValue("pool_max", pool_max, "a number of connections from 1 to 1000")
    return pool_max
