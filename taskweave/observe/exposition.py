"""`/metrics` and `/healthz` over HTTP/1.1, for one scraper and whoever asks whether the process is alive.

A responder of its own rather than a web server: it must run on every runtime inside the worker, costs nothing at
rest, and serves two fixed pages. It takes GET and HEAD, answers and closes. Bounds: 16 KiB of request head within
10 s, 16 connections, no body. It listens on the loopback unless a host is given, since it asks nobody who they are.

Before a scrape the handler looks at the store, at most once in ten times what the last look took (a count may be
slow on a long backlog) and never for longer than two seconds; a store that does not answer leaves the last numbers.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from typing import Final

import anyio
import anyio.to_thread
from anyio.abc import SocketAttribute, SocketStream, TaskStatus
from attrs import define, field, frozen

from taskweave.abc import Env
from taskweave.core.ids import MILLISECOND, SECOND, Micros
from taskweave.core.verbs import Stats
from taskweave.exceptions import InvalidValue, StoreError
from taskweave.observe.logging import logger
from taskweave.observe.metrics import CONTENT_TYPE, PrometheusObserver

HEAD_BYTES_MAX: Final = 16 << 10
HEAD_SECONDS_MAX: Final = 10.0
CONNECTIONS_MAX: Final = 16
LOOK_SECONDS_MAX: Final = 2.0
LAG_EVERY_US: Final[Micros] = 250 * MILLISECOND

_REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}


@frozen
class Address:
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """Return where to listen: ":9090" and "9090" mean the loopback, "0.0.0.0:9090" or "[::]:9090" what they say.

    Raises InvalidValue.
    """
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if colon else ""
    number = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else -1
    if not 0 <= number <= 65535 or (host and not _is_host(host)):
        raise InvalidValue("metrics address", text, "host:port, or :port for the loopback, e.g. ':9090'")
    return Address(host or "127.0.0.1", number)


def _is_host(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return len(host) <= 253 and all(part.isascii() and part.replace("-", "a").isalnum() for part in host.split("."))
    return True


@define
class Exposition:
    """Serves one observer's metrics until cancelled; one instance for one worker.

    `look` asks the store for its Stats; `healthy` says whether the worker still does its work.
    """

    observer: PrometheusObserver
    env: Env
    look: Callable[[], Awaitable[Stats]] | None = None
    healthy: Callable[[], bool] = field(default=lambda: True)
    _connections: int = field(default=0, init=False)
    _looked_at: Micros | None = field(default=None, init=False)
    _look_took: Micros = field(default=0, init=False)
    _looking: anyio.Lock = field(factory=anyio.Lock, init=False)

    async def serve(self, address: Address, *, task_status: TaskStatus[Address] = anyio.TASK_STATUS_IGNORED) -> None:
        """Listens until cancelled, and reports the address in use (port 0 chooses one). Raises InvalidValue."""
        try:
            listener = await anyio.create_tcp_listener(local_host=address.host, local_port=address.port)
        except OSError as error:
            problem = error.strerror or str(error)
            raise InvalidValue(
                "metrics address", str(address), f"one that this machine can listen on ({problem})"
            ) from error
        async with listener, anyio.create_task_group() as group:
            port = listener.extra(SocketAttribute.local_port)
            group.start_soon(self._measure_lag)
            task_status.started(Address(address.host, int(port)))
            await listener.serve(self._answer, group)

    async def _measure_lag(self) -> None:
        while True:
            slept_at = self.env.now()
            await anyio.sleep(LAG_EVERY_US / SECOND)
            self.observer.lagged(max(0, self.env.now() - slept_at - LAG_EVERY_US))

    async def _answer(self, stream: SocketStream) -> None:
        self._connections += 1
        try:
            async with stream:
                if self._connections > CONNECTIONS_MAX:
                    await _reply(stream, 503, b"too many connections\n")
                    return
                await self._respond(stream)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, OSError):
            logger.debug("a client of /metrics went away before its answer")
        finally:
            self._connections -= 1

    async def _respond(self, stream: SocketStream) -> None:
        status, method, path = await _read_head(stream)
        if status != 200:
            await _reply(stream, status, _REASONS[status].encode() + b"\n")
        elif method not in ("GET", "HEAD"):
            await _reply(stream, 405, b"only GET and HEAD\n", headers="Allow: GET, HEAD\r\n")
        elif path == "/metrics":
            await self._refresh()
            text = await anyio.to_thread.run_sync(self.observer.exposed)
            await _reply(stream, 200, text, kind=CONTENT_TYPE, bare=method == "HEAD")
        elif path == "/healthz":
            status, body = (200, b"ok\n") if self.healthy() else (503, b"stopping\n")
            await _reply(stream, status, body, bare=method == "HEAD")
        else:
            await _reply(stream, 404, b"there is /metrics and /healthz\n", bare=method == "HEAD")

    async def _refresh(self) -> None:
        if self.look is None:
            return
        async with self._looking:
            now = self.env.now()
            if self._looked_at is not None and now < self._looked_at + 10 * self._look_took:
                return
            try:
                with anyio.move_on_after(LOOK_SECONDS_MAX):
                    self.observer.counted(await self.look())
            except StoreError as error:
                logger.warning("the depths of the queues are old: %s", error)
            self._looked_at = self.env.now()
            self._look_took = self._looked_at - now


async def _read_head(stream: SocketStream) -> tuple[int, str, str]:
    """The status that the head deserves, its method and its path without the query."""
    head = bytearray()
    with anyio.move_on_after(HEAD_SECONDS_MAX):
        while b"\r\n\r\n" not in head:
            if len(head) > HEAD_BYTES_MAX:
                return 431, "", ""
            head += await stream.receive(4096)
        line = bytes(head[: head.index(b"\r\n")]).decode("latin-1")
        parts = line.split(" ")
        if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
            return 400, "", ""
        return 200, parts[0], parts[1].partition("?")[0]
    return 408, "", ""


async def _reply(
    stream: SocketStream,
    status: int,
    body: bytes,
    *,
    kind: str = "text/plain; charset=utf-8",
    headers: str = "",
    bare: bool = False,
) -> None:
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        f"X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n{headers}Connection: close\r\n\r\n"
    )
    with anyio.move_on_after(HEAD_SECONDS_MAX):
        await stream.send(head.encode("latin-1") + (b"" if bare else body))
