"""The one table that turns errors of PostgreSQL and its driver into those of taskweave, each with its cause.

An error that the server itself reports has undone the transaction, so `applied` is "no". When the connection broke,
or the server said that it was ending the session, it depends on what was under way: before the commit was sent nothing
can have happened, after it nobody knows.
"""

from __future__ import annotations

import ssl
from typing import Any, Final, Literal

from taskweave.exceptions import (
    InvalidValue,
    NotAStore,
    StoreError,
    StoreFull,
    StoreMissing,
    StoreReadOnly,
    StoreRefused,
    StoreUnavailable,
    TaskweaveError,
)
from taskweave.stores._postgres.driver import asyncpg

Applied = Literal["no", "unknown"]

# Two transactions met and one had to give way, or a statement was prepared before someone changed the schema: the whole
# transaction is done again.
AGAIN: Final = frozenset({"40001", "40P01", "23505", "55P03", "0A000", "26000"})

_KINDS: Final[dict[str, tuple[type[StoreError], str]]] = {  # by SQLSTATE, or by its class, the first two characters
    "08": (StoreUnavailable, "the connection broke"),
    "0A": (StoreUnavailable, "a prepared statement does not fit any more"),
    "25006": (StoreReadOnly, "the transaction or the server is read-only"),
    "26": (StoreUnavailable, "a prepared statement is gone; behind a pooler, add pgbouncer=true to the address"),
    "28": (StoreRefused, "the login was refused"),
    "3D000": (StoreMissing, "there is no such database"),
    "3F000": (StoreMissing, "the schema of its namespace is gone"),
    "40": (StoreUnavailable, "its transactions met each other too often"),
    "42501": (StoreRefused, "the user lacks a right"),
    "42P01": (StoreMissing, "one of its tables is gone"),
    "42703": (NotAStore, "one of its tables has other columns"),
    "42704": (NotAStore, "something of its schema is gone"),
    "42883": (NotAStore, "one of its functions is gone"),
    "23505": (StoreUnavailable, "others took the same id or key again and again"),
    "53100": (StoreFull, "the disk of the server is full"),
    "53200": (StoreUnavailable, "the server has not enough memory"),
    "53300": (StoreUnavailable, "the server takes no more connections"),
    "53": (StoreUnavailable, "the server lacks a resource"),
    "55P03": (StoreUnavailable, "a lock was held for too long"),
    "55": (StoreUnavailable, "an object is in use"),
    "57014": (StoreUnavailable, "the statement took too long and was cancelled"),
    "57": (StoreUnavailable, "the server is shutting down or ended the session"),
    "58": (StoreUnavailable, "the server met a system error"),
    "XX": (StoreUnavailable, "the server met an internal error"),
}


def sqlstate(error: BaseException) -> str | None:
    """The code of an error that the server sent, None for any other."""
    if not isinstance(error, asyncpg.PostgresError):
        return None
    code: Any = getattr(error, "sqlstate", None)
    return code if isinstance(code, str) else None


def is_driver_error(error: BaseException) -> bool:
    """Whether `converted` has an answer for this error."""
    return isinstance(
        error,
        (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError, EOFError),
    )


def converted(error: BaseException, store: str, *, committing: bool = False) -> TaskweaveError:
    """What this error is called here. `committing`: the op may take effect without an answer to it."""
    if isinstance(error, asyncpg.exceptions.DataError) and isinstance(error, asyncpg.InterfaceError):
        return InvalidValue("value", str(error)[:200], "text that UTF-8 can encode, and integers of 64 bits")
    code = sqlstate(error)
    applied: Applied = "unknown" if committing and not was_undone(error) else "no"
    if code is None:
        return _of_client(error, store, applied)
    if code.startswith("22"):  # a text with a NUL in it, a number out of range
        return InvalidValue("value", str(error)[:200], "a value that PostgreSQL can hold")
    kind, problem = _KINDS.get(code) or _KINDS.get(code[:2]) or (StoreError, "the server refused the operation")
    return kind(store, f"{problem} ({error}; SQLSTATE {code})", applied=applied)


def was_undone(error: BaseException) -> bool:
    """Whether the server has told that the transaction was undone, and goes on with the session."""
    return sqlstate(error) is not None and getattr(error, "severity_en", None) == "ERROR"


def _of_client(error: BaseException, store: str, applied: Applied) -> StoreError:
    if isinstance(error, ssl.SSLError) or "rejected SSL" in str(error):
        return StoreRefused(store, f"TLS failed ({error})", applied=applied)
    if isinstance(error, TimeoutError):
        return StoreUnavailable(store, "it did not answer in time", applied=applied)
    return StoreUnavailable(store, f"the connection broke ({error or type(error).__name__})", applied=applied)
