"""The one table that turns errors of the server and of the driver into those of taskweave, each with its cause.

The server's answers are told by their first word, which its protocol promises; a script's own troubles arrive inside
a longer text, so the words are looked for there too. `applied` is "no" where the server refused before the first write
of a script, or nothing was sent; a connection that breaks, or a script that fails midway, leaves it unknown.
"""

from __future__ import annotations

import re
from typing import Final, Literal

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ConnectionError,
    RedisError,
    ResponseError,
    TimeoutError,
)

from taskweave.exceptions import (
    NotAStore,
    StoreError,
    StoreFull,
    StoreMissing,
    StoreRefused,
    StoreUnavailable,
)

_GONE: Final = "its data is gone (flushed, evicted, or the server was replaced by an empty one); nothing was written"
_REPLACED: Final = "its data was replaced by another dataset while it was open; open it again"

_TABLE: Final[dict[str, tuple[type[StoreError], str]]] = {
    "TWGONE": (StoreMissing, _GONE),
    "TWREPLACED": (StoreMissing, _REPLACED),
    "OOM": (StoreFull, "the server has used all the memory that it may (maxmemory)"),
    "MISCONF": (StoreUnavailable, "the server takes no writes because it cannot save them to its disk"),
    "READONLY": (StoreUnavailable, "it is a replica that takes no writes; a failover may be under way"),
    "NOREPLICAS": (StoreUnavailable, "the server takes no writes while too few replicas follow it"),
    "MASTERDOWN": (StoreUnavailable, "it is a replica whose master is down"),
    "LOADING": (StoreUnavailable, "the server is loading its data"),
    "BUSY": (StoreUnavailable, "the server is busy with somebody's long script"),
    "CLUSTERDOWN": (StoreUnavailable, "the cluster is down"),
    "TRYAGAIN": (StoreUnavailable, "the cluster is moving its keys"),
    "MOVED": (StoreRefused, "it is a node of a cluster; add ?cluster=true to the address"),
    "ASK": (StoreRefused, "it is a node of a cluster; add ?cluster=true to the address"),
    "CROSSSLOT": (StoreRefused, "the cluster keeps the store's keys in several slots"),
    "NOAUTH": (StoreRefused, "it wants a password"),
    "WRONGPASS": (StoreRefused, "the user or the password is wrong"),
    "NOPERM": (StoreRefused, "the user may not do what the store needs"),
    "DENIED": (StoreRefused, "it runs in protected mode"),
    "WRONGTYPE": (NotAStore, "a key of its namespace holds something else"),
}
_WORDS: Final = re.compile(rf"(?:^|[\s-])({'|'.join(_TABLE)})\b")
_TLS: Final = "[SSL: "  # as Python's ssl module begins what it says
_MAX_CLIENTS: Final = "max number of clients reached"
_NO_DATABASE: Final = "DB index is out of range"
_FORBIDDEN: Final = "user executing the script can't"  # how Redis 7 says NOPERM of what a script calls
_KILLED: Final = ("Script killed by user", "NOSCRIPT")


def refused(error: RedisError, store: str, *, sent: bool) -> StoreError:
    """What this error means. `sent` says whether the op had left before it came."""
    said = _said(error)
    word = _word(said)
    if _MAX_CLIENTS in said:
        return StoreUnavailable(store, "the server has no connection left (maxclients)")
    if isinstance(error, AuthenticationError | AuthorizationError):
        return StoreRefused(store, f"{_TABLE[word or 'WRONGPASS'][1]} ({said})")
    if word is not None or isinstance(error, ResponseError):
        return _answered(said, word, store)
    unknown: Literal["no", "unknown"] = "unknown" if sent else "no"
    if _TLS in said:
        return StoreRefused(store, f"TLS could not be agreed on ({said})", applied=unknown)
    if isinstance(error, ConnectionError | TimeoutError):
        return StoreUnavailable(store, said, applied=unknown)
    return StoreError(store, said, applied=unknown)


def broken(error: OSError, store: str, *, sent: bool) -> StoreError:
    """An error of the socket that the driver let through."""
    return StoreUnavailable(store, str(error) or type(error).__name__, applied="unknown" if sent else "no")


def _answered(said: str, word: str | None, store: str) -> StoreError:
    if word is None:
        if any(words in said for words in _KILLED):
            return StoreUnavailable(store, said)
        if _FORBIDDEN in said:
            return StoreRefused(store, f"{_TABLE['NOPERM'][1]} ({said})", applied="unknown")  # may come after a write
        if _NO_DATABASE in said:
            return StoreRefused(store, f"it has no such database ({said})")
        return StoreError(store, f"the server refused the operation ({said})", applied="unknown")
    kind, problem = _TABLE[word]
    unproved = word == "WRONGTYPE" or (word == "NOPERM" and "script" in said)  # may come after a write
    own = word.startswith("TW")
    return kind(store, problem if own else f"{problem} ({said})", applied="unknown" if unproved else "no")


def _word(said: str) -> str | None:
    found = _WORDS.search(said)
    return None if found is None else found[1]


def _said(error: BaseException) -> str:
    """The driver cuts the first word off some errors, and makes a class of it."""
    text = str(error) or type(error).__name__
    code = type(error).__name__.removesuffix("Error").upper()
    cut = {"OUTOFMEMORY": "OOM", "BUSYLOADING": "LOADING", "READONLY": "READONLY", "NOPERMISSION": "NOPERM"}
    named = cut.get(code, code)
    return f"{named} {text}" if named in _TABLE and not text.startswith(named) else text
