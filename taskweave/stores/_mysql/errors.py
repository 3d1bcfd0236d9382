"""The one table that turns errors of the server and its driver into those of taskweave, each with its cause.

Every op is one transaction that ends with a COMMIT of its own. Whatever fails before that was sent has not happened:
the server undoes what it was never told to keep. After it, only an error that the server itself reports for the COMMIT
proves the same; when the connection broke, nobody knows.
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
from taskweave.stores._mysql.driver import errors

Applied = Literal["no", "unknown"]

# Two transactions met, and one had to give way: the whole of it is done again. A deadlock, a lock that was held too
# long, a row that changed since the snapshot, a key that another took first.
MET: Final = frozenset({1213, 1205, 1020, 1062})
ENDED: Final = frozenset({1317, 1969, 3024})  # a statement was ended from outside, and that may have been the commit
LOST: Final = frozenset({1053, 1077, 1079, 1080, 1152, 1158, 1159, 1160, 1161, 1184, 1927, 2006, 2013, 2055})

_KINDS: Final[dict[int, tuple[type[StoreError], str]]] = {
    1020: (StoreUnavailable, "its transactions met others too often"),
    1062: (StoreUnavailable, "others took the same id or key again and again"),
    1205: (StoreUnavailable, "a lock was held for too long"),
    1213: (StoreUnavailable, "its transactions met others too often"),
    1021: (StoreFull, "the disk of the server is full"),
    1026: (StoreFull, "the server could not write a file"),
    1041: (StoreFull, "the server is out of memory"),
    1037: (StoreFull, "the server is out of memory"),
    1038: (StoreFull, "the server is out of memory for sorting"),
    1114: (StoreFull, "a table is full"),
    1206: (StoreFull, "the server has no room for more locks"),
    1637: (StoreFull, "the server takes no more transactions at once"),
    1036: (StoreReadOnly, "a table is read-only"),
    1290: (StoreReadOnly, "the server is read-only"),
    1792: (StoreReadOnly, "the transaction is read-only"),
    1836: (StoreReadOnly, "the server is read-only"),
    1044: (StoreRefused, "the user may not use the database"),
    1045: (StoreRefused, "the login was refused"),
    1130: (StoreRefused, "the server does not let this machine in"),
    1131: (StoreRefused, "the server lets no anonymous user do that"),
    1142: (StoreRefused, "the user lacks a right on a table"),
    1143: (StoreRefused, "the user lacks a right on a column"),
    1227: (StoreRefused, "the user lacks a right"),
    1251: (StoreRefused, "the server wants another way to log in"),
    1370: (StoreRefused, "the user lacks a right on a routine"),
    1410: (StoreRefused, "the user may not grant"),
    1698: (StoreRefused, "the login was refused"),
    1820: (StoreRefused, "the password has to be changed first"),
    1862: (StoreRefused, "the password has expired"),
    2026: (StoreRefused, "TLS failed"),
    2059: (StoreRefused, "the server wants a way to log in that the driver does not know"),
    2061: (StoreRefused, "the login was refused"),
    3159: (StoreRefused, "the server takes connections by TLS only; put sslmode=verify-full into the address"),
    4151: (StoreRefused, "the account is locked"),
    1040: (StoreUnavailable, "the server takes no more connections"),
    1129: (StoreUnavailable, "the server has blocked this machine after too many errors"),
    1135: (StoreUnavailable, "the server cannot start a thread"),
    1203: (StoreUnavailable, "the user has too many connections"),
    1226: (StoreUnavailable, "the user is at one of the limits of the account"),
    1317: (StoreUnavailable, "the statement was interrupted"),
    1047: (StoreUnavailable, "the server is not ready for queries"),
    1969: (StoreUnavailable, "the statement took too long and was ended"),
    3024: (StoreUnavailable, "the statement took too long and was ended"),
    2002: (StoreUnavailable, "it cannot be reached"),
    2003: (StoreUnavailable, "it cannot be reached"),
    2005: (StoreUnavailable, "its host is not known"),
    1049: (StoreMissing, "there is no such database"),
    1146: (StoreMissing, "one of its tables is gone"),
    1051: (StoreMissing, "one of its tables is gone"),
    1932: (StoreMissing, "one of its tables is gone from the engine"),
    1054: (NotAStore, "one of its tables has other columns"),
    1136: (NotAStore, "one of its tables has other columns"),
    1176: (NotAStore, "an index of one of its tables is gone"),
    1194: (NotAStore, "one of its tables is damaged"),
    1712: (NotAStore, "an index of one of its tables is damaged"),
    1877: (NotAStore, "one of its tables is damaged"),
    1153: (
        StoreError,
        "a job is larger than max_allowed_packet of the server; raise that, or store the data elsewhere",
    ),
}
_VALUES: Final = frozenset({1264, 1300, 1366, 1406, 1690})  # a number out of range, a text that does not fit


def errno(error: BaseException) -> int | None:
    """The number of an error that the server or the driver gave, None for any other."""
    if not isinstance(error, errors.MySQLError):
        return None
    first: Any = error.args[0] if error.args else None
    return first if isinstance(first, int) else None


def is_driver_error(error: BaseException) -> bool:
    """Whether `converted` has an answer for this error."""
    return isinstance(error, (errors.MySQLError, OSError, TimeoutError, EOFError, UnicodeEncodeError))


def is_lost(error: BaseException) -> bool:
    """Whether the connection broke, or the server ended the session."""
    number = errno(error)
    if number is None:
        return isinstance(error, (OSError, EOFError))
    return number in LOST or number < 1000 or 2000 <= number < 3000


def converted(error: BaseException, store: str, *, committing: bool = False) -> TaskweaveError:
    """What this error is called here. `committing`: the op may take effect without an answer to it."""
    if isinstance(error, UnicodeEncodeError):
        return InvalidValue("text", error.object, "text that UTF-8 can encode")
    number, lost = errno(error), is_lost(error)
    applied: Applied = "unknown" if committing and (lost or number in ENDED) else "no"
    if isinstance(error, ssl.SSLError) or isinstance(error.__cause__, ssl.SSLError):
        return StoreRefused(store, f"TLS failed ({error})", applied=applied)
    if number is None:
        said = str(error) or type(error).__name__
        return StoreUnavailable(store, f"the connection broke ({said})", applied=applied)
    said = str(error.args[1]) if len(error.args) > 1 else str(error)
    if number in _VALUES:
        return InvalidValue("value", said[:200], "a value that a column of the store can hold")
    kind, problem = _KINDS.get(number, (StoreError, "the server refused the operation"))
    if number not in _KINDS and lost:
        kind, problem = StoreUnavailable, "the connection broke"
    return kind(store, f"{problem} ({said[:300]}; error {number})", applied=applied)
