"""Real servers for tests, property tests and benches: PostgreSQL, Redis, Valkey, MariaDB, PgBouncer.

    server = servers.shared("postgres")         one for each test process, started when first asked for
    server = servers.private("redis", appendonly="yes")    its own: may be killed, paused, filled, restarted
    servers.missing("mariadb")                  None, or why there is none and the command that brings it
    with servers.cluster() as nodes: ...        three Redis masters

Rules:
- Found in this order: an address in the environment (TASKWEAVE_TEST_POSTGRES_URL, _REDIS_URL, _MYSQL_URL,
  _PGBOUNCER_URL), a program on PATH or where Debian puts it, a program in a wheel of the dependency group `servers`.
- A password is always set, made anew for each server and full of characters that an address must quote, so that logging
  in and quoting are exercised everywhere, and a test can look for the password where it must not be.
- Ordinary servers forget on a power cut (no fsync); `durable=True` is as a careful user runs it. PostgreSQL and MariaDB
  find their data again after a kill either way, Redis only if durable.
- No pytest in here: benches and the conformance suite use it too.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import queue
import secrets
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from server_kinds import KINDS, Kind
from server_process import START_S, ServerProcess, free_port, new_folder, until
from server_programs import HOW_TO_INSTALL, program

ALIASES = {"mysql": "mariadb", "postgresql": "postgres"}
STARTS_MAX = 5  # another process may take the port between the look and the start

_shared: dict[str, Server] = {}
_ours: list[Server] = []
_lock = threading.RLock()
_pid = os.getpid()


class Server:
    """A server that answers at `url()`; what harms it works only on one that was started here (`ours`)."""

    def __init__(self, kind: Kind, *, durable: bool = False, settings: dict[str, object] | None = None) -> None:
        self.kind, self.durable, self.settings = kind, durable, dict(settings or {})
        self.ours = True
        self.host, self.port = "127.0.0.1", 0
        self.user, self.database = kind.user, kind.database
        self.password = f"p@:/%41 {secrets.token_hex(8)}" if kind.name != "pgbouncer" else ""
        self.folder = Path()
        self.process: ServerProcess | None = None

    @classmethod
    def at(cls, kind: Kind, url: str) -> Server:
        """Somebody else's server, known by its address alone."""
        server, parts = cls(kind), urlsplit(url)
        server.ours = False
        server.host, server.port = parts.hostname or "127.0.0.1", parts.port or kind.port
        server.user, server.password = unquote(parts.username or ""), unquote(parts.password or "")
        server.database = parts.path.strip("/")
        return server

    def url(self, namespace: str | None = None, *, user: str | None = None, password: str | None = None) -> str:
        """Its address, password included; with other credentials when they are given."""
        name = quote(self.user if user is None else user, safe="")
        word = quote(self.password if password is None else password, safe="")
        tail = f"?namespace={namespace}" if namespace else ""
        return f"{self.kind.scheme}://{name}:{word}@{self.host}:{self.port}/{self.database}{tail}"

    def admin(self, *statements: str) -> list[Any]:
        """Run SQL statements (or Redis commands, as words) with all rights; the rows of the last one."""
        rows: list[Any] = _in_own_loop(lambda: self.kind.admin(self, statements))
        return rows

    @contextlib.contextmanager
    def crowd(self, most: int) -> Iterator[int]:
        """Hold connections, as many as the server gives up to this number; yields how many that is."""
        held, release = queue.SimpleQueue[int](), threading.Event()

        async def hold() -> None:
            connections: list[Any] = []
            with contextlib.suppress(Exception):  # it has no more: each driver has its own word for that
                while len(connections) < most:
                    connections.append(await self.kind.connect(self))
            held.put(len(connections))
            await asyncio.to_thread(release.wait)
            for each in connections:
                with contextlib.suppress(Exception):  # cut meanwhile by a test
                    await self.kind.leave(each)

        thread = threading.Thread(target=lambda: asyncio.run(hold()), name="crowd", daemon=True)
        thread.start()
        try:
            yield held.get(timeout=START_S)
        finally:
            release.set()
            thread.join(START_S)

    # --- its life -------------------------------------------------------------------------------------------------

    def start(self) -> Server:
        """Start it on a free port in a new folder; return when it answers."""
        self.folder = new_folder(self.kind.name, unprivileged=self.kind.unprivileged)
        try:
            for left in reversed(range(STARTS_MAX)):
                self.port = free_port()
                self.kind.prepare(self)
                if self._launch(last=not left):
                    break
        except BaseException:
            self.stop()
            raise
        return self

    def restart(self) -> None:
        """Start it again on the same port with the same data; return when it answers."""
        self._own()
        if self.process is not None and self.process.alive:
            self.process.stop(self.kind.stop_signal)
        self._launch(last=True)

    def kill(self) -> None:
        """SIGKILL to the whole server; return when nothing of it is left."""
        self._own().kill()

    def halt(self) -> None:
        """An orderly end that keeps its data: `restart` brings it back."""
        self._own().stop(self.kind.stop_signal)

    def pause(self) -> None:
        """SIGSTOP to the whole server: connections stay open and are not answered."""
        self._own().send(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT: what was sent meanwhile is answered."""
        self._own().send(signal.SIGCONT)

    def stop(self) -> None:
        """End it and remove its data; again is harmless."""
        if self.ours and os.getpid() == _pid:
            if self.process is not None:
                self.process.kill()  # nobody will read its data again
            if self.folder != Path():
                shutil.rmtree(self.folder, ignore_errors=True)
            with _lock:
                if self in _ours:
                    _ours.remove(self)

    def log(self) -> str:
        """The end of what the server wrote into its log."""
        return self._own().said()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<{self.kind.name} at {self.host}:{self.port}>"

    def _own(self) -> ServerProcess:
        if self.process is None:
            raise RuntimeError(f"{self} was not started here: tests that harm a server ask for servers.private()")
        return self.process

    def _launch(self, *, last: bool) -> bool:
        command = self.kind.command(self)
        self.process = ServerProcess(command, self.folder / "log", self.folder, unprivileged=self.kind.unprivileged)
        process = self.process
        try:
            until(lambda: not process.alive or self.answers(), START_S, f"{self} to answer")
        except TimeoutError as error:
            raise RuntimeError(f"{self} does not answer:\n{process.said()}") from error
        if process.alive:
            return True
        if last:
            raise RuntimeError(f"{self} ended while it started:\n{process.said()}")
        return False

    def answers(self) -> bool:
        """Whether it is up and lets its own user in; `last_error` says why not."""
        try:
            self.admin(self.kind.greeting)
        except Exception as error:  # noqa: BLE001 - what a starting server answers has many names
            self.last_error = error
            return False
        return True


# --- which one ------------------------------------------------------------------------------------------------------


def left_out() -> bool:
    """Whether this run is to use no servers, although there may be some."""
    return os.environ.get("TASKWEAVE_TEST_SERVERS") == "none"


def missing(kind: str, *, private: bool = False) -> str | None:
    """None when there is such a server; else the reason, with the command that brings it."""
    name = ALIASES.get(kind, kind)
    known = KINDS[name]
    if left_out():
        return "servers are left out of this run (TASKWEAVE_TEST_SERVERS=none)"
    if known.environment in os.environ and not private:
        return None
    for each in (name, *known.needs):
        if program(each) is None:
            found = "" if private else f", and {known.environment} is not set"
            return f"no {each} server on this machine{found}: {HOW_TO_INSTALL[each]}"
    return known.driver_missing()


def shared(kind: str) -> Server:
    """The one server of this kind in this process: started when first asked for, ended with the process."""
    name = ALIASES.get(kind, kind)
    with _lock:
        if name not in _shared:
            url = os.environ.get(KINDS[name].environment)
            _shared[name] = Server.at(KINDS[name], url) if url else private(name)
        return _shared[name]


def pids() -> set[int]:
    """The processes of the servers that this process has started."""
    with _lock:
        return {server.process.pid for server in _ours if server.process is not None}


def private(kind: str, *, durable: bool = False, password: str | None = None, **settings: object) -> Server:
    """A server of one's own, with these settings of its configuration; stop it (or use `with`) when done."""
    name = ALIASES.get(kind, kind)
    reason = missing(name, private=True)
    if reason:
        raise FileNotFoundError(reason)
    server = Server(KINDS[name], durable=durable, settings=settings)
    server.password = server.password if password is None else password
    with _lock:
        _ours.append(server)
    return server.start()


@contextlib.contextmanager
def cluster(masters: int = 3) -> Iterator[list[Server]]:
    """Redis Cluster: this many masters that share all slots."""
    from server_kinds import join_cluster

    nodes: list[Server] = []
    try:
        for _ in range(masters):
            password = nodes[0].password if nodes else None  # a cluster has one
            nodes.append(private("redis", password=password, cluster_enabled="yes", cluster_port=free_port()))
        _in_own_loop(lambda: join_cluster(nodes))
        yield nodes
    finally:
        for node in nodes:
            node.stop()


@atexit.register
def _end_all() -> None:
    for server in list(_ours):
        server.stop()


def _in_own_loop(work: Callable[[], Any]) -> Any:
    """Run driver code in a loop and a thread of its own: callers may be inside any loop, or none."""
    outcome: list[Any] = []

    async def whole() -> Any:
        return await asyncio.wait_for(work(), 30)

    def call() -> None:
        try:
            outcome.extend((asyncio.run(whole()), None))
        except BaseException as error:  # noqa: BLE001 - raised again where it was asked for
            outcome.extend((None, error))

    thread = threading.Thread(target=call, name="server admin", daemon=True)
    thread.start()
    thread.join()
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]
