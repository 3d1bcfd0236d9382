"""The address of a MySQL store: read once, checked whole, and shown without its password.

    mysql://user:password@host:port/database?namespace=taskweave&pool=10

`mariadb://` means the same. The database has to be named, and has to be there; the namespace is the beginning of the
names of its tables. A host that begins with a slash (written %2F) or `?socket=/path` is a unix socket. TLS is verified
unless the address says otherwise: `sslmode` is verify-full for any host that is not this machine, and disable for this
one.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from difflib import get_close_matches
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from attrs import field, frozen

from taskweave.exceptions import InvalidStoreUrl, InvalidValue, StoreRefused, UnknownOption

NAMESPACE: Final = "taskweave"
POOL_MAX: Final = 10
PORT: Final = 3306
SSLMODES: Final = ("disable", "require", "verify-ca", "verify-full")

_NAMESPACE: Final = re.compile(r"[a-z_][a-z0-9_]{0,40}")


@frozen
class Address:
    """Where a store is and how it is reached."""

    host: str = "localhost"
    port: int = PORT
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    database: str = ""
    namespace: str = NAMESPACE
    pool_max: int = POOL_MAX
    socket: str | None = None
    sslmode: str | None = None
    sslrootcert: str | None = None
    sslcert: str | None = None
    sslkey: str | None = None
    context: ssl.SSLContext | None = field(default=None, repr=False, eq=False)  # in place of what sslmode says

    @property
    def url(self) -> str:
        """The address without its password, for messages."""
        user = "" if self.user is None else f"{quote(self.user, safe='')}@"
        host = f"[{self.host}]" if ":" in self.host else self.host
        place = f"{host}:{self.port}" if self.socket is None else quote(self.socket, safe="")
        return f"mysql://{user}{place}/{quote(self.database, safe='')}?namespace={self.namespace}"

    @property
    def local(self) -> bool:
        """Whether the server is on this machine: a unix socket or a loopback address."""
        if self.socket is not None or self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False

    def tls(self) -> ssl.SSLContext | None:
        """How TLS is used; None for not at all. Raises StoreRefused for a certificate file that cannot be used."""
        if self.context is not None:
            return self.context
        mode = self.sslmode or ("disable" if self.local else "verify-full")
        if mode == "disable":
            return None
        try:
            context = ssl.create_default_context(cafile=self.sslrootcert)
            context.check_hostname = mode == "verify-full"
            if mode == "require" and self.sslrootcert is None:
                context.verify_mode = ssl.CERT_NONE
            if self.sslcert is not None:
                context.load_cert_chain(self.sslcert, self.sslkey)
        except (OSError, ssl.SSLError) as error:
            raise StoreRefused(self.url, f"a certificate file cannot be used ({error})") from error
        return context


def checked_namespace(namespace: str, store: str | None = None) -> str:
    """The namespace unchanged, or refused: tables are named by it. Raises InvalidStoreUrl, InvalidValue."""
    if isinstance(namespace, str) and _NAMESPACE.fullmatch(namespace):
        return namespace
    expected = "a small letter or _, then at most 40 small letters, digits or _"
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
    parts = urlsplit(url)
    if parts.scheme not in ("mysql", "mariadb"):
        raise InvalidStoreUrl(shown, "it does not begin with mysql:// or mariadb://")
    if parts.fragment:
        raise InvalidStoreUrl(shown, "it has a fragment; # is written %23")
    given = _options(parts.query, shown)
    login, _, place = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    host, port = _place(place, shown)
    if host is not None and host.startswith("/"):
        given.setdefault("socket", host)
        host = None
    database = unquote(parts.path[1:])
    if not database or "/" in database or "\0" in database:
        raise InvalidStoreUrl(shown, "it names no database: mysql://host:port/database")
    return Address(
        host=host or "localhost",
        port=port or PORT,
        user=unquote(user) or None,
        password=unquote(password) if ":" in login else None,
        database=database,
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


def _sslmode(value: str, shown: str) -> str:
    if value not in SSLMODES:
        raise InvalidStoreUrl(shown, f"sslmode={value[:20]} is none of {', '.join(SSLMODES)}")
    return value


def _namespace(value: str, shown: str) -> str:
    return checked_namespace(value, shown)


_OPTIONS: Final[dict[str, tuple[str, Callable[[str, str], Any]]]] = {
    "namespace": ("namespace", _namespace),
    "pool": ("pool_max", _number),
    "socket": ("socket", _text),
    "sslmode": ("sslmode", _sslmode),
    "sslrootcert": ("sslrootcert", _text),
    "sslcert": ("sslcert", _text),
    "sslkey": ("sslkey", _text),
}
