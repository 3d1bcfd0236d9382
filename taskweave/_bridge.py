"""asyncio-only drivers from any anyio task, on asyncio (uvloop too) and on trio: the one place that knows the runtime.

Rules:
1. What crosses the bridge is a whole store operation (a coroutine function that may do many driver awaits), never a
   single driver call: one hop per batch. It costs about 15 us on asyncio and 70 us on trio.
2. Edge cancellation. When the caller is cancelled, the driver's task gets exactly ONE task.cancel(), which is what
   asyncio drivers are written for, and the caller waits until it has unwound. anyio cancels by level, again and
   again; without the bridge its second cancel tears the driver's ROLLBACK or the return of a pooled connection.
   That is why the bridge is needed on asyncio too.
3. A finished operation is never lost: if it completed although the caller was cancelled, its result is returned, and
   the cancellation is raised at the caller's next checkpoint.
4. An operation that waits for one future of the loop, once, and has nothing to unwind is `asked`: on asyncio it needs
   none of the above and costs no task. A call of aiosqlite is one; it halves what an operation costs.

On trio the drivers live on one asyncio loop in one helper thread. uvloop in that thread was tried: no gain.
asyncio is imported when a bridge is opened, not before: a program on trio that needs no driver never loads it.
"""

from __future__ import annotations

import contextvars
import sys
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from math import inf
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar, TypeVarTuple

import anyio
import anyio.to_thread

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")
Args = TypeVarTuple("Args")
Post: TypeAlias = Callable[..., None]


class Bridge(Protocol):
    async def run(self, op: Callable[[*Args], Awaitable[T]], /, *args: *Args) -> T:
        """Run op(*args) as an asyncio task of its own and return its result, or raise its error."""
        ...

    async def ask(self, op: Callable[[*Args], Awaitable[T]], /, *args: *Args) -> T:
        """As run, for an op whose only wait is one future: a caller that is cancelled leaves it behind at once."""
        ...

    def post(self, fn: Callable[[*Args], object], /, *args: *Args) -> None:
        """From a driver's callback (notification, subscription): call fn(*args) in the caller's event loop."""
        ...

    def start(self, op: Callable[[*Args], Awaitable[object]], /, *args: *Args) -> Background:
        """Run op(*args) beside the caller, from its loop, until it returns or is stopped."""
        ...


class Background:
    """A task on the driver's side that nobody awaits; whoever started it stops it before the bridge is closed."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._task: asyncio.Task[object] | None = None

    def begin(self, task: asyncio.Task[object]) -> None:
        """On the driver's side: this is the task."""
        self._task = task

    async def stop(self) -> None:
        """Cancel it once, and return when it has unwound. Raises what it raised, if it had ended by itself."""
        with anyio.CancelScope(shield=True):
            await self._bridge.run(self._ended)

    async def _ended(self) -> None:
        import asyncio

        task = self._task
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()


async def _call(op: Callable[[*Args], Awaitable[T]], args: tuple[*Args]) -> T:
    """Any awaitable will do, and every error, a TypeError of the call included, lands in the task."""
    return await op(*args)


class SameLoop:
    """asyncio and uvloop: a task of its own on the caller's loop."""

    def __init__(self) -> None:
        import asyncio

        self._asyncio = asyncio
        self._loop = asyncio.get_running_loop()

    async def run(self, op: Callable[[*Args], Awaitable[T]], /, *args: *Args) -> T:
        task = self._loop.create_task(_call(op, args))
        try:
            return await self._asyncio.shield(task)
        except self._asyncio.CancelledError:
            if not task.done():
                task.cancel()
                with anyio.CancelScope(shield=True):
                    await self._asyncio.wait([task])
            # A cancelled anyio scope raises again at the next checkpoint, so rule 3 may return the result; a native
            # task.cancel() comes only once and must not be swallowed. (Re-arming it by uncancel() and cancel() leaks
            # the CancelledError out of anyio's scope on 3.11.)
            if task.cancelled() or anyio.current_effective_deadline() > -inf:
                raise
            return task.result()

    async def ask(self, op: Callable[[*Args], Awaitable[T]], /, *args: *Args) -> T:
        return await op(*args)

    def post(self, fn: Callable[[*Args], object], /, *args: *Args) -> None:
        fn(*args)

    def start(self, op: Callable[[*Args], Awaitable[object]], /, *args: *Args) -> Background:
        background = Background(self)
        background.begin(self._loop.create_task(_call(op, args)))
        return background


class TrioThread:
    """trio: one asyncio loop in one helper thread, shared by every asyncio-only driver. Opened inside a trio task."""

    def __init__(self) -> None:
        import trio

        self._low = trio.lowlevel
        self._token = trio.lowlevel.current_trio_token()
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event
        self._problem: BaseException | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="taskweave-asyncio", daemon=True)
        self._thread.start()
        self._started.wait()
        if self._problem is not None:
            raise self._problem

    def _serve(self) -> None:
        import asyncio

        async def main() -> None:
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
            self._started.set()
            await self._stop.wait()

        try:
            asyncio.run(main())
        except BaseException as error:
            # The border of a thread: without this a loop that cannot be made leaves the opener waiting for ever.
            if self._started.is_set():
                raise
            self._problem = error
        finally:
            self._started.set()

    def close(self) -> None:
        """End the loop, cancelling what still runs on it, and join the thread. Blocks."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def run(self, op: Callable[[*Args], Awaitable[T]], /, *args: *Args) -> T:
        low, loop, token = self._low, self._loop, self._token
        me = low.current_task()
        task: asyncio.Task[T] | None = None
        raise_cancel: Callable[[], Any] | None = None

        def wake(_: object) -> None:  # asyncio thread
            token.run_sync_soon(low.reschedule, me)

        def start() -> None:  # asyncio thread
            nonlocal task
            task = loop.create_task(_call(op, args))
            task.add_done_callback(wake)

        def cancel() -> None:  # asyncio thread; call_soon is first in first out, so start() ran before
            if task is not None:
                task.cancel()

        def abort(raise_: Callable[[], Any]) -> Any:  # trio thread; trio calls it at most once per wait
            nonlocal raise_cancel
            raise_cancel = raise_
            loop.call_soon_threadsafe(cancel)
            return low.Abort.FAILED

        await low.checkpoint_if_cancelled()
        loop.call_soon_threadsafe(start, context=_context_for_asyncio())
        await low.wait_task_rescheduled(abort)
        if task is None:
            raise RuntimeError("the bridge resumed a caller whose task never started")
        done: asyncio.Task[T] = task
        if done.cancelled() and raise_cancel is not None:
            raise_cancel()
        return done.result()

    async def ask(self, op: Callable[[*Args], Awaitable[T]], /, *args: *Args) -> T:
        return await self.run(op, *args)

    def post(self, fn: Callable[[*Args], object], /, *args: *Args) -> None:
        self._token.run_sync_soon(fn, *args)

    def start(self, op: Callable[[*Args], Awaitable[object]], /, *args: *Args) -> Background:
        background, loop = Background(self), self._loop

        def begin() -> None:  # asyncio thread; whatever asks for the task comes after this
            background.begin(loop.create_task(_call(op, args)))

        loop.call_soon_threadsafe(begin, context=_context_for_asyncio())
        return background


def _context_for_asyncio() -> contextvars.Context:
    """A copy of the caller's context, so that tracing ids travel, without the word "trio" that anyio.run() left in it.

    With it, anyio code inside the helper thread takes itself for trio: "Task got bad yield".
    """
    context = contextvars.copy_context()
    sniffio = sys.modules.get("sniffio")
    if sniffio is not None:
        context.run(sniffio.current_async_library_cvar.set, None)
    return context


def _inside_trio() -> bool:
    trio = sys.modules.get("trio")
    return trio is not None and bool(trio.lowlevel.in_trio_task())


@asynccontextmanager
async def open_bridge() -> AsyncGenerator[Bridge, None]:
    """Yields the bridge of the running loop; on trio its helper thread is joined at the end, cancelled or not."""
    if not _inside_trio():
        yield SameLoop()
        return
    bridge = TrioThread()
    try:
        yield bridge
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(bridge.close)


def poster() -> Post:
    """Return a function that, from any thread, has a callback run soon in the loop that is running now.

    Call it inside a task. The returned function takes (fn, *args), returns at once, and never raises for a loop that
    has ended: its callbacks are dropped then. That is silence on purpose: what is posted here are hints (something
    may have changed), whoever waited for them ended with the loop, and the thread that posts must live on for others.
    """
    return _trio_poster() if _inside_trio() else _asyncio_poster()


def _trio_poster() -> Post:
    import trio

    token = trio.lowlevel.current_trio_token()

    def post(fn: Callable[..., object], /, *args: object) -> None:
        try:
            token.run_sync_soon(fn, *args)
        except trio.RunFinishedError:
            return  # nobody is left to be told

    return post


def _asyncio_poster() -> Post:
    import asyncio

    loop = asyncio.get_running_loop()

    def post(fn: Callable[..., object], /, *args: object) -> None:
        try:
            loop.call_soon_threadsafe(fn, *args)
        except RuntimeError:
            if not loop.is_closed():
                raise
            return  # nobody is left to be told

    return post
