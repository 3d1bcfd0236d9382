"""The address of a PostgreSQL store: read once, checked whole, and shown without its password.

    postgres://user:password@host:port/database?namespace=taskweave&pool=10

Every part but the scheme may be missing: what is missing is what libpq takes (PGHOST, PGUSER, PGPASSWORD, .pgpass ...).
A host that begins with a slash (written %2F) or `?host=/path` is the folder of a unix socket. TLS is verified unless
the address says otherwise: `sslmode` is verify-full for any host that is not this machine.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from difflib import get_close_matches
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from attrs import field, frozen

from taskweave.exceptions import InvalidStoreUrl, InvalidValue, UnknownOption

NAMESPACE: Final = "taskweave"
POOL_MAX: Final = 10
PORT: Final = 5432
SSLMODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")

_NAMESPACE: Final = re.compile(r"[a-z_][a-z0-9_]{0,40}")
_RESERVED: Final = re.compile(r"pg_.*|information_schema")
_BOOLEANS: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@frozen
class Address:
    """Where a store is and how it is reached; None means what the driver takes by itself."""

    host: str | None = None
    port: int | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    database: str | None = None
    namespace: str = NAMESPACE
    pool_max: int = POOL_MAX
    sslmode: str | None = None
    sslrootcert: str | None = None
    sslcert: str | None = None
    sslkey: str | None = None
    pooler: bool | None = None  # whether a transaction pooler stands between; None: to be found out
    application_name: str = "taskweave"

    @property
    def url(self) -> str:
        """The address without its password, for messages."""
        user = "" if self.user is None else f"{quote(self.user, safe='')}@"
        host = "" if self.host is None else quote(self.host, safe="") if self.host.startswith("/") else self.host
        host = f"[{host}]" if ":" in host else host
        port = "" if self.port is None else f":{self.port}"
        database = "" if self.database is None else quote(self.database, safe="")
        return f"postgres://{user}{host}{port}/{database}?namespace={self.namespace}"

    @property
    def local(self) -> bool:
        """Whether the server is on this machine: a unix socket or a loopback address."""
        host = self.host
        if host is None or host.startswith("/") or host == "localhost":
            return True
        try:
            return ip_address(host).is_loopback
        except ValueError:
            return False


def checked_namespace(namespace: str, store: str | None = None) -> str:
    """The namespace unchanged, or refused: it becomes the name of a schema. Raises InvalidStoreUrl, InvalidValue."""
    fit = isinstance(namespace, str) and _NAMESPACE.fullmatch(namespace) and not _RESERVED.fullmatch(namespace)
    if fit:
        return namespace
    expected = "a small letter or _, then at most 40 small letters, digits or _; not pg_... or information_schema"
    if store is not None:
        raise InvalidStoreUrl(store, f"namespace {namespace[:60]!r} is not {expected}")
    raise InvalidValue("namespace", namespace, expected)


def checked_pool(pool_max: int) -> int:
    if pool_max.__class__ is not int or not 1 <= pool_max <= 1_000:
        raise InvalidValue("pool_max", pool_max, "an integer from 1 to 1000")
    return pool_max


def parsed(url: str) -> Address:
    """The address of this URL. Raises InvalidStoreUrl, and UnknownOption for a parameter that does not exist."""
    shown = redacted(url)
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise InvalidStoreUrl(shown, f"it cannot be read ({error})") from error
    if parts.scheme not in ("postgres", "postgresql"):
        raise InvalidStoreUrl(shown, "it does not begin with postgres://")
    if parts.fragment:
        raise InvalidStoreUrl(shown, "it has a fragment; # is written %23")
    given = _options(parts.query, shown)
    login, _, place = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    host, port = _place(place, shown)
    database = unquote(parts.path[1:])
    if "/" in database:
        raise InvalidStoreUrl(shown, "the name of its database has a slash")
    return Address(
        host=given.pop("host", None) or host,
        port=given.pop("port", None) or port,
        user=unquote(user) or None,
        password=unquote(password) if ":" in login else None,
        database=database or None,
        **given,
    )


def redacted(url: str) -> str:
    """An address fit for a message, however wrong it is: without what stands before the last @, and its parameters."""
    scheme, found, rest = url.partition("://")
    place = rest.rpartition("@")[2]
    return f"{scheme}{found}{'***@' if '@' in rest else ''}{place.partition('?')[0]}"[:200]


def _place(place: str, shown: str) -> tuple[str | None, int | None]:
    if "," in place:
        raise InvalidStoreUrl(shown, "it names several hosts; a store is on one")
    if place.startswith("["):
        host, found, port = place[1:].partition("]")
        if not found or (port and not port.startswith(":")):
            raise InvalidStoreUrl(shown, "its host has a bracket too few or too many")
        port = port[1:]
    else:
        host, _, port = place.partition(":")
    return unquote(host) or None, _port(port, shown) if port else None


def _port(text: str, shown: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65_536):
        raise InvalidStoreUrl(shown, f"its port {text[:20]!r} is not a number from 1 to 65535")
    return int(text)


# --- the parameters after the question mark -------------------------------------------------------------------------


def _options(query: str, shown: str) -> dict[str, Any]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError as error:
        raise InvalidStoreUrl(shown, "its parameters are not name=value, joined by &") from error
    given: dict[str, Any] = {}
    for name, value in pairs:
        known = _OPTIONS.get(name)
        if known is None:
            nearest = get_close_matches(name, _OPTIONS, 1)
            raise UnknownOption(name[:60], f"the address {shown}", nearest[0] if nearest else None)
        attribute, read = known
        if attribute in given:
            raise InvalidStoreUrl(shown, f"it gives {name} twice")
        given[attribute] = read(value, shown)
    return given


def _text(value: str, shown: str) -> str:
    if not value:
        raise InvalidStoreUrl(shown, "one of its parameters is empty")
    return value


def _number(value: str, shown: str) -> int:
    if not (value.isascii() and value.isdigit() and 1 <= int(value) <= 1_000):
        raise InvalidStoreUrl(shown, f"pool={value[:20]} is not a number from 1 to 1000")
    return int(value)


def _boolean(value: str, shown: str) -> bool:
    if value not in _BOOLEANS:
        raise InvalidStoreUrl(shown, f"pgbouncer={value[:20]} is neither true nor false")
    return _BOOLEANS[value]


def _sslmode(value: str, shown: str) -> str:
    if value not in SSLMODES:
        raise InvalidStoreUrl(shown, f"sslmode={value[:20]} is none of {', '.join(SSLMODES)}")
    return value


def _namespace(value: str, shown: str) -> str:
    return checked_namespace(value, shown)


_OPTIONS: Final[dict[str, tuple[str, Callable[[str, str], Any]]]] = {
    "namespace": ("namespace", _namespace),
    "pool": ("pool_max", _number),
    "host": ("host", _text),
    "port": ("port", _port),
    "sslmode": ("sslmode", _sslmode),
    "sslrootcert": ("sslrootcert", _text),
    "sslcert": ("sslcert", _text),
    "sslkey": ("sslkey", _text),
    "pgbouncer": ("pooler", _boolean),
    "application_name": ("application_name", _text),
}
