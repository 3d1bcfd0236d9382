"""Wake-ups between processes: LISTEN and NOTIFY as a hint, on one connection that a store keeps for nothing else.

Rules
  outside     nothing is notified in a job's transaction: at its commit NOTIFY takes a lock of the whole database, one
              for all who notify, and workers would queue up behind it
  coalesced   what is to be said is gathered, and said at most every SAY_EVERY_S; ends of jobs, which only those who
              wait for results in other processes want to hear of, more rarely
  bounded     queues are said by a hash each, and as "any" when there are many: a notice has at most 8,000 bytes
  probed      it notifies itself, at the start and now and then. What does not come back says that something between
              does not pass notices on: that is logged once, and everybody polls
  lost        a connection that broke is made again, and all listeners are woken: they may have missed something
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from hashlib import blake2b
from typing import Final

import anyio

from taskweave.stores._postgres.address import Address
from taskweave.stores._postgres.driver import Connection
from taskweave.stores._postgres.errors import converted, is_driver_error
from taskweave.stores._postgres.pool import closed, connect
from taskweave.stores._postgres.statements import statements
from taskweave.stores.wakeups import Listener, Touch

SAY_EVERY_S: Final = 0.005
SAY_ENDS_EVERY_S: Final = 0.02
PROBE_EVERY_S: Final = 30.0
PROBE_WITHIN_S: Final = 2.0
AGAIN_FIRST_S, AGAIN_LAST_S = 0.1, 5.0  # between two attempts to connect
FLUSH_S: Final = 1.0
QUEUES_MAX: Final = 100  # in one notice

ANY, ENDS, PROBE = "*", "!", "?"

log = logging.getLogger("taskweave.store")


def mark_of(queue: str) -> str:
    """How a queue is called in a notice: 8 characters; two that share a mark wake each other for nothing."""
    return blake2b(queue.encode("utf-8", "backslashreplace"), digest_size=4).hexdigest()


class Notices:
    """Says what this store has done, and wakes its listeners at what others say; lives on the driver's side."""

    def __init__(self, address: Address, url: str) -> None:
        self.deaf = False  # notices do not come through
        self.said = 0
        self.heard = 0
        self._address, self._url = address, url
        self._channel = f"taskweave:{address.namespace}"
        self._notify = statements(address.namespace)["notify"]
        self._listeners: tuple[tuple[Listener, frozenset[str]], ...] = ()
        self._marks: set[str] = set()  # what is to be said
        self._work = anyio.Event()
        self._quiet = anyio.Event()  # nothing is left to be said
        self._probe = 0
        self._answered = anyio.Event()
        self._pid = 0

    @property
    def has_work(self) -> bool:
        """From any thread."""
        return bool(self._marks or self._listeners)

    # --- asked for on the driver's side ---

    def tell(self, touch: Touch) -> None:
        """Others may want to know of this; they hear of it soon."""
        marks = self._marks
        if touch.ends:
            marks.add(ENDS)
        if touch.queues is None:
            marks.add(ANY)
        elif touch.queues:
            marks.update(map(mark_of, touch.queues))
        if marks:
            self._work.set()

    async def hear(self, listener: Listener) -> None:
        """Wake it at what others say, from soon on; it is woken once when that begins."""
        self._listeners = (*self._listeners, (listener, frozenset(map(mark_of, listener.queues))))
        self._work.set()

    async def ignore(self, listener: Listener) -> None:
        self._listeners = tuple([pair for pair in self._listeners if pair[0] is not listener])

    async def flush(self) -> None:
        """Return when everything has been said, or could not be for a while."""
        with anyio.move_on_after(FLUSH_S):
            while self._marks:
                self._quiet = anyio.Event()
                await self._quiet.wait()

    # --- its life ---

    async def run(self) -> None:
        """Until cancelled: keep a connection, say and hear."""
        pause = AGAIN_FIRST_S
        while True:
            try:
                connection = await connect(self._address, pooled=False)
                try:
                    pause = AGAIN_FIRST_S
                    await self._serve(connection)
                finally:
                    await closed(connection)
            except Exception as error:
                if not is_driver_error(error):
                    raise
                log.debug("no wake-ups for now: %s", converted(error, self._url))
            self._wake_all()
            await anyio.sleep(pause)
            pause = min(pause * 2, AGAIN_LAST_S)

    async def _serve(self, connection: Connection) -> None:
        self._pid = connection.get_server_pid()
        connection.add_termination_listener(lambda _: self._work.set())
        listening = False
        while not connection.is_closed():
            if self._listeners and not listening and not self.deaf:
                await connection.add_listener(self._channel, self._on_notice)
                listening = True
                await self._probed(connection)
                self._wake_all()
            if self._marks:
                await self._say(connection)
                continue
            self._quiet.set()
            with anyio.move_on_after(PROBE_EVERY_S) as waited:
                await self._work.wait()
                self._work = anyio.Event()
            if waited.cancelled_caught and listening and not self.deaf:
                await self._probed(connection)

    async def _say(self, connection: Connection) -> None:
        marks, self._marks = self._marks, set()
        await connection.execute(self._notify, self._channel, said(marks))
        self.said += 1
        await anyio.sleep(SAY_EVERY_S)
        if marks == {ENDS}:
            with anyio.move_on_after(SAY_ENDS_EVERY_S - SAY_EVERY_S):
                while self._marks <= {ENDS}:
                    await self._work.wait()
                    self._work = anyio.Event()

    async def _probed(self, connection: Connection) -> None:
        """Find out whether notices come through."""
        self._probe += 1
        self._answered = anyio.Event()
        await connection.execute(self._notify, self._channel, f"{PROBE}{self._probe}")
        with anyio.move_on_after(PROBE_WITHIN_S):
            await self._answered.wait()
            return
        if not connection.is_closed():
            self.deaf = True
            log.warning("%s: notices do not come through (is there a pooler between?); workers poll", self._url)

    def _on_notice(self, connection: object, pid: int, channel: str, payload: str) -> None:
        if pid == self._pid:  # what this process did, its own listeners know already
            if payload == f"{PROBE}{self._probe}":
                self._answered.set()
            return
        if payload.startswith(PROBE):
            return
        self.heard += 1
        marks = set(payload.split())
        for listener, wanted in self._listeners:
            meant = ENDS in marks if not wanted else ANY in marks or not marks.isdisjoint(wanted)
            if meant:
                listener.wake()

    def _wake_all(self) -> None:
        for listener, _ in self._listeners:
            listener.wake()


def said(marks: Collection[str]) -> str:
    """A notice of these marks."""
    if len(marks) > QUEUES_MAX:
        marks = {ANY, *({ENDS} & set(marks))}
    return " ".join(sorted(marks))
