"""A network that fails on purpose: a TCP proxy before a real server, which cuts exactly where it is told to.

    with Proxy(server) as proxy:
        proxy.plan = nth(2, "after")        the second request from now on: applied, and nobody is told
        ...
        assert proxy.injected["after"] == 1

Where a fault strikes, with respect to one request:
  before    it never reaches the server                    after     the server has answered, the client never hears it
  mid       the client gets half of the answer             silence   neither reaches anybody, the connection stays open
  deaf      it reaches the server, the answer nobody       delay     it waits on its way there
All but silence, deaf and delay end the connection: by RST, or by FIN when the fault says so.

It runs in threads, so a client on any event loop, or in another process, is served. Requests are those of the protocol
(`wire_protocols`): what belongs to logging in is passed on and not counted, except on Redis, where it is a command too.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
from collections import Counter, deque
from collections.abc import Callable
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

from attrs import define, field, frozen
from servers import Server
from wire_protocols import PROTOCOLS, Protocol, Unit

Where = Literal["before", "after", "mid", "silence", "deaf", "delay"]
BUFFER_BYTES = 65536
CLOSE_S = 10.0


@frozen
class Fault:
    where: Where
    rst: bool = True
    delay_s: float = 0.0


@frozen
class Request:
    """One request as it passes: `number` counts those of the proxy from 1, `text` is what it says, as sent."""

    number: int
    connection: int
    text: bytes


Plan = Callable[[Request], Fault | None]


def nth(n: int, where: Where, *, saying: bytes = b"", rst: bool = True, delay_s: float = 0.0) -> Plan:
    """The n-th request from now on, once; `saying` counts only those that contain these words, in any case."""
    seen = 0

    def plan(request: Request) -> Fault | None:
        nonlocal seen
        seen += saying.upper() in request.text.upper()
        if seen != n:
            return None
        seen += 1
        return Fault(where, rst, delay_s)

    return plan


def every(n: int, *places: Where, saying: bytes = b"", most: int | None = None) -> Plan:
    """Each n-th request, with these places in turn, until `most` have failed."""
    seen = struck = 0

    def plan(request: Request) -> Fault | None:
        nonlocal seen, struck
        if saying.upper() not in request.text.upper():
            return None
        seen += 1
        if seen % n or (most is not None and struck >= most):
            return None
        struck += 1
        return Fault(places[(struck - 1) % len(places)], rst=struck % 2 == 0)

    return plan


class Proxy:
    """Listens while it is entered. `plan` may be replaced at any time; `injected` counts the faults by their place."""

    def __init__(self, server: Server) -> None:
        self.target = (server.host, server.port)
        self.protocol = PROTOCOLS[server.kind.scheme]
        self.plan: Plan | None = None
        self.injected: Counter[str] = Counter()
        self.requests = self.connections = 0
        self.refusing = self.silent = False
        self._lock = threading.Lock()
        self._open: set[Conversation] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.host, self.port = self._listener.getsockname()

    def url(self, direct: str) -> str:
        """The server's address with the proxy in its place."""
        parts = urlsplit(direct)
        credentials, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{credentials}{at}{self.host}:{self.port}"))

    def __enter__(self) -> Proxy:
        thread = threading.Thread(target=self._accept, name="proxy", daemon=True)
        self._threads.append(thread)
        thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.refusing = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(CLOSE_S)

    def cut(self) -> int:
        """End every connection that is open now; returns how many there were."""
        with self._lock:
            now = list(self._open)
        for conversation in now:
            conversation.end(rst=True)
        return len(now)

    def silence(self) -> int:
        """From now on nothing passes and nothing ends, old and new connections alike; returns how many are open."""
        with self._lock:
            self.silent = True
            for conversation in self._open:
                conversation.mute = True
            return len(self._open)

    def heal(self) -> None:
        """What was silenced breaks, and new connections are whole again."""
        self.silent = False
        self.cut()

    def fault_for(self, connection: int, text: bytes) -> Fault | None:
        with self._lock:
            self.requests += 1
            plan = self.plan
            fault = plan(Request(self.requests, connection, text)) if plan is not None else None
            if fault is not None:
                self.injected[fault.where] += 1
            return fault

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed: the end of the proxy
            if self.refusing:
                _reset(client)
                continue
            try:
                server = socket.create_connection(self.target, timeout=CLOSE_S)
            except OSError:  # the server is down, and so its client is told
                _reset(client)
                continue
            self.connections += 1
            conversation = Conversation(self, self.connections, client, server, self.protocol())
            with self._lock:
                conversation.mute = self.silent
                self._open.add(conversation)
            thread = threading.Thread(target=self._serve, args=(conversation,), name="proxied", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, conversation: Conversation) -> None:
        try:
            conversation.run()
        finally:
            with self._lock:
                self._open.discard(conversation)


@define(eq=False)
class Conversation:
    """One connection through the proxy."""

    proxy: Proxy
    number: int
    client: socket.socket
    server: socket.socket
    protocol: Protocol
    mute: bool = False  # what comes is read and thrown away, both ways
    over: bool = False
    lock: threading.Lock = field(factory=threading.Lock)

    def run(self) -> None:
        for each in (self.client, self.server):
            each.settimeout(None)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        due: deque[Fault | None] = deque()  # a request that is under way, and what shall become of its answer
        with selectors.DefaultSelector() as selector:
            try:
                selector.register(self.client, selectors.EVENT_READ)
                selector.register(self.server, selectors.EVENT_READ)
                while not self.over:
                    for key, _ in selector.select(0.2):
                        if not self._turn(key.fileobj, due):
                            return
            except (OSError, ValueError):
                return  # one side is gone, or both were closed by end()
            finally:
                self.end(rst=False)

    def _turn(self, ready: object, due: deque[Fault | None]) -> bool:
        """Pass on what one side has sent; False when the connection is to end."""
        side = self.client if ready is self.client else self.server
        data = side.recv(BUFFER_BYTES)
        if not data:
            return False
        if self.mute:
            return True
        if side is self.client:
            return all(self._ask(unit, due) for unit in self.protocol.from_client(data))
        return all(self._answer(unit, due) for unit in self.protocol.from_server(data))

    def _ask(self, unit: Unit, due: deque[Fault | None]) -> bool:
        if self.mute:
            return True
        fault = self.proxy.fault_for(self.number, unit.text) if unit.ends else None
        if fault is not None and fault.where == "before":
            self.end(fault.rst)
            return False
        if fault is not None and fault.where == "silence":
            self.mute = True
            return True
        if fault is not None and fault.where == "delay":
            threading.Event().wait(fault.delay_s)
        if unit.ends:
            due.append(fault)
        self.server.sendall(unit.data)
        return True

    def _answer(self, unit: Unit, due: deque[Fault | None]) -> bool:
        fault = due[0] if due else None
        where = None if fault is None else fault.where
        if unit.ends and due:
            due.popleft()
        if fault is None or where == "delay":
            self.client.sendall(unit.data)
        elif where == "deaf":
            self.mute = self.mute or unit.ends
        elif where == "mid":
            self.client.sendall(unit.data[: max(1, len(unit.data) // 2)])
            self.end(rst=False)  # a RST could overtake the half that was sent
            return False
        elif unit.ends:  # after
            self.end(fault.rst)
            return False
        return True

    def end(self, rst: bool) -> None:
        with self.lock:
            if not self.over:
                self.over = True
                for each in (self.client, self.server):
                    _reset(each) if rst and each is self.client else _close(each)


def _close(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


def _reset(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
