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
from typing import Any, Final, Generic, ParamSpec, TypeVar
from weakref import WeakSet

import anyio.lowlevel
from anyio.from_thread import BlockingPortal, start_blocking_portal

from taskweave._runtime.loading import refuse_while_loading
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


class Once(Generic[T]):
    """A value that is made by the first thread that asks for it; the others wait and get the same."""

    __slots__ = ("_lock", "_made", "_make")

    def __init__(self, make: Callable[[], T]) -> None:
        self._make, self._lock = make, threading.Lock()
        self._made: list[T] = []

    def get(self) -> T:
        if not self._made:
            with self._lock:
                if not self._made:
                    self._made.append(self._make())
        return self._made[0]


class Portal:
    """Runs async functions for threads that have no loop, all on one loop in one background thread."""

    def __init__(self, enter: Callable[[], AbstractAsyncContextManager[Any]], name: str) -> None:
        self._enter, self._name = enter, name
        self._begin()
        _PORTALS.add(self)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._portal: BlockingPortal | None = None
        self._stack = ExitStack()

    def call(self, call: str, instead: str, fn: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what `await fn(...)` returns there.

        Raises SyncInsideLoop naming `instead`, MissingMainGuard while a child process loads the program, and
        whatever fn raises.
        """
        refuse_while_loading()
        if inside_loop():
            raise SyncInsideLoop(call, instead)
        portal = self._started()

        async def run() -> T:
            return await fn(*args, **kwargs)

        return portal.call(run)

    def _started(self) -> BlockingPortal:
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
        with self._lock:
            if self._portal is None:
                return
            self._portal = None
            atexit.unregister(self.close)
            self._stack.close()

    def forget(self) -> None:
        """In a child after a fork: the thread, its loop and the resource are the parent's."""
        if self._portal is not None:
            atexit.unregister(self.close)
            _ABANDONED.append(self._stack)  # if it were collected it would talk to a thread that is not there
        self._begin()


_ABANDONED: Final[list[ExitStack]] = []
_PORTALS: Final[WeakSet[Portal]] = WeakSet()


def _forget_all() -> None:
    for portal in _PORTALS:
        portal.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
