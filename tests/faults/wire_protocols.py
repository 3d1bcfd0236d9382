"""Where requests end and where their answers end, in the protocols of PostgreSQL, Redis and MySQL.

A `Splitter` is fed the bytes of one direction of one connection and returns whole units: messages, commands, packets.
A unit says whether it completes a request (from the client) or an answer (from the server), so that a proxy can cut a
connection exactly between what was asked and what was heard. Nothing is interpreted beyond that.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field, frozen


@frozen
class Unit:
    data: bytes
    ends: bool  # a request or an answer is complete with it
    text: bytes = b""  # of a request: all of its bytes


Find = Callable[[bytes, int], int | None]  # where the unit that begins here ends, None when more bytes are needed


@define
class Buffer:
    """Bytes that came, cut into whole units by a function that finds their ends."""

    find: Find
    data: bytes = b""

    def feed(self, data: bytes) -> list[bytes]:
        self.data += data
        units, start = [], 0
        while start < len(self.data) and (end := self.find(self.data, start)) is not None:
            units.append(self.data[start:end])
            start = end
        self.data = self.data[start:]
        return units


class Protocol:
    """One connection's two directions."""

    def from_client(self, data: bytes) -> list[Unit]:
        raise NotImplementedError

    def from_server(self, data: bytes) -> list[Unit]:
        raise NotImplementedError


# --- PostgreSQL -----------------------------------------------------------------------------------------------------

SSL_REQUESTS = (80877103, 80877104)  # TLS, GSS: answered with one bare byte


@define
class Postgres(Protocol):
    """A request ends with Query or Sync, its answer with ReadyForQuery; logging in is neither."""

    started: bool = False
    bare: int = 0  # answers of one byte still to come
    ready: bool = False  # the first ReadyForQuery belongs to the login
    parts: list[bytes] = field(factory=list[bytes])
    client: Buffer = field(init=False)
    server: Buffer = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.client, self.server = Buffer(self._client_end), Buffer(self._server_end)

    def _client_end(self, data: bytes, start: int) -> int | None:
        if self.started:
            return _whole(data, start, 1)
        end = _whole(data, start, 0)
        if end is not None:
            code = int.from_bytes(data[start + 4 : start + 8], "big")
            self.bare += code in SSL_REQUESTS
            self.started = code not in SSL_REQUESTS
        return end

    def _server_end(self, data: bytes, start: int) -> int | None:
        if self.bare:
            self.bare -= 1
            return start + 1
        return _whole(data, start, 1)

    def from_client(self, data: bytes) -> list[Unit]:
        units = []
        for message in self.client.feed(data):
            self.parts.append(message)
            ends = message[:1] in (b"Q", b"S")
            units.append(Unit(message, ends, b"".join(self.parts) if ends else b""))
            if ends:
                self.parts.clear()
        return units

    def from_server(self, data: bytes) -> list[Unit]:
        units = []
        for message in self.server.feed(data):
            ready = message[:1] == b"Z"
            units.append(Unit(message, ready and self.ready))
            self.ready = self.ready or ready
        return units


def _whole(data: bytes, start: int, skip: int) -> int | None:
    """The end of a message that begins with `skip` bytes and a length that counts itself."""
    if len(data) < start + skip + 4:
        return None
    end = start + skip + int.from_bytes(data[start + skip : start + skip + 4], "big")
    return end if len(data) >= end else None


# --- Redis ----------------------------------------------------------------------------------------------------------


@define
class Redis(Protocol):
    """Each command is a request, each value an answer; what the server pushes by itself is not."""

    client: Buffer = field(init=False)
    server: Buffer = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.client, self.server = Buffer(_value), Buffer(_value)

    def from_client(self, data: bytes) -> list[Unit]:
        return [Unit(command, True, command) for command in self.client.feed(data)]

    def from_server(self, data: bytes) -> list[Unit]:
        return [Unit(value, value[:1] not in b">|") for value in self.server.feed(data)]


def _value(data: bytes, start: int) -> int | None:
    """The end of the RESP value that begins here."""
    line = data.find(b"\r\n", start)
    if line < 0:
        return None
    kind, end = data[start : start + 1], line + 2
    if kind in b"$!=":
        size = int(data[start + 1 : line])
        end += size + 2 if size >= 0 else 0
        return end if len(data) >= end else None
    if kind in b"*~>%|":
        count = int(data[start + 1 : line]) * (2 if kind in b"%|" else 1)
        for _ in range(count):
            inner = _value(data, end)
            if inner is None:
                return None
            end = inner
    return end


# --- MySQL ----------------------------------------------------------------------------------------------------------

DEPRECATE_EOF, MORE_RESULTS = 1 << 24, 0x0008
OK, ERR, EOF = 0x00, 0xFF, 0xFE


@define
class MySQL(Protocol):
    """A request is a command packet (number 0); its answer ends as its first packet says: OK, ERR, or rows to come."""

    commands: bool = False  # the login is over
    no_eof: bool = False  # the client asked for tables without the packet between columns and rows
    columns: int | None = None  # of the table under way, None between answers
    rows: bool = False
    client: Buffer = field(init=False)
    server: Buffer = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.client, self.server = Buffer(_packet), Buffer(_packet)

    def from_client(self, data: bytes) -> list[Unit]:
        units = []
        for packet in self.client.feed(data):
            if not self.commands and packet[3] == 1:
                self.no_eof = bool(int.from_bytes(packet[4:8], "little") & DEPRECATE_EOF)
            units.append(Unit(packet, self.commands and packet[3] == 0, packet[4:]))
        return units

    def from_server(self, data: bytes) -> list[Unit]:
        return [Unit(packet, self._ends(packet[4:], packet[3])) for packet in self.server.feed(data)]

    def _ends(self, body: bytes, number: int) -> bool:
        if not self.commands:
            self.commands = number > 0 and body[0] == OK  # and the OK of the login answers no command
            return False
        if self.columns is None:
            return self._first(body)
        if not self.rows:
            self.columns -= 1
            self.rows = self.columns == (0 if self.no_eof else -1)  # -1: the packet between columns and rows
            return False
        last = body[0] == ERR or (body[0] == EOF and len(body) < (0xFFFFFF if self.no_eof else 9))
        if not last:
            return False
        self.columns, self.rows = None, False
        return body[0] == ERR or not self._more(body, 1 if not self.no_eof else None)

    def _first(self, body: bytes) -> bool:
        if body[0] == ERR:
            return True
        if body[0] in (OK, EOF):
            return not self._more(body, None if body[0] == OK or self.no_eof else 1)
        self.columns = _integer(body, 0)[0]
        return False

    def _more(self, body: bytes, warnings_at: int | None) -> bool:
        """Whether another answer follows this one, as its status says."""
        if warnings_at is not None:
            at = warnings_at + 2
        else:
            at = _integer(body, _integer(body, 1)[1])[1]
        return bool(int.from_bytes(body[at : at + 2], "little") & MORE_RESULTS)


def _packet(data: bytes, start: int) -> int | None:
    if len(data) < start + 4:
        return None
    end = start + 4 + int.from_bytes(data[start : start + 3], "little")
    return end if len(data) >= end else None


def _integer(data: bytes, at: int) -> tuple[int, int]:
    """A length-encoded integer, and where it ends."""
    size = {0xFC: 2, 0xFD: 3, 0xFE: 8}.get(data[at])
    if size is None:
        return data[at], at + 1
    return int.from_bytes(data[at + 1 : at + 1 + size], "little"), at + 1 + size


PROTOCOLS: dict[str, type[Protocol]] = {"postgres": Postgres, "redis": Redis, "mysql": MySQL}
