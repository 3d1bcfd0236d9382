"""The way in for programs without an event loop: one background thread that has one, for as long as it is needed.

The thread is a daemon with a loop and a resource of its own (a store opened there), started by the first call and
closed by `close` or when the interpreter exits, whichever comes first; it never keeps the interpreter alive. After a
fork the child starts its own, since a thread does not survive one.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, ExitStack
from typing import Any, ParamSpec, TypeVar

import anyio.lowlevel
from anyio.from_thread import BlockingPortal, start_blocking_portal

from taskweave.exceptions import SyncInsideLoop

P = ParamSpec("P")
T = TypeVar("T")


def inside_loop() -> bool:
    """Whether this thread is running an event loop right now."""
    try:
        anyio.lowlevel.current_token()
    except RuntimeError:  # there is none
        return False
    return True


class Portal:
    """Runs async functions for threads that have no loop, all on one loop in one background thread."""

    def __init__(self, enter: Callable[[], AbstractAsyncContextManager[Any]], name: str) -> None:
        self._enter, self._name = enter, name
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._portal: BlockingPortal | None = None
        self._stack = ExitStack()

    def call(self, call: str, instead: str, fn: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what `await fn(...)` returns there. Raises SyncInsideLoop naming `instead`, and whatever fn raises."""
        if inside_loop():
            raise SyncInsideLoop(call, instead)
        portal = self._started()

        async def run() -> T:
            return await fn(*args, **kwargs)

        return portal.call(run)

    def _started(self) -> BlockingPortal:
        if self._pid != os.getpid():
            self._begin()
        with self._lock:
            if self._portal is None:
                with ExitStack() as stack:
                    portal = stack.enter_context(start_blocking_portal("asyncio", name=self._name))
                    stack.enter_context(portal.wrap_async_context_manager(self._enter()))
                    self._stack = stack.pop_all()
                self._portal = portal
                atexit.register(self.close)
            return self._portal

    def close(self) -> None:
        """Close the resource and end the thread; a later call starts anew. Does nothing where nothing runs."""
        if self._pid != os.getpid():
            return  # a fork's copy: the thread and the resource are the parent's
        with self._lock:
            if self._portal is None:
                return
            self._portal = None
            atexit.unregister(self.close)
            self._stack.close()
