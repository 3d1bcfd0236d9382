"""Thread mode: plain functions run in threads, and are stopped where Python can stop them.

Theory
  A thread cannot be killed, but an exception can be raised in it between two instructions of Python. A run that is
  cancelled gets ThreadCancelled that way: its `finally` blocks run, and pure Python code ends at once. A call into C
  (sleep, a socket without timeout, a query) ends when it returns; the caller waits `grace` seconds for that, then
  leaves the thread behind.
Rules
  once      one injection in a run, and none after its function has ended: worker threads are used again, and what is
            raised in the wrong one would hit somebody else's job. Both sides decide under the run's own lock.
  undone    an injection that has not been delivered when the function ends is taken back by the thread itself
  slots     a thread that was left behind keeps its token of the limit until it really ends
  context   the function sees a copy of the caller's context variables
Limits: code that swallows BaseException goes on; a thread in a call into C that never returns keeps its memory and
  its slot, and on asyncio keeps the interpreter from ending by itself (it is logged, `left_behind` counts, and the
  command `taskweave worker` ends all the same). What must be stoppable belongs into process mode.
"""

from __future__ import annotations

import ctypes
import logging
import math
import threading
from collections.abc import Callable
from typing import Any, Final

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread

from taskweave._runtime.work import Work

GRACE_SECONDS: Final = 0.5

log = logging.getLogger("taskweave.worker")


class ThreadCancelled(BaseException):
    """Raised inside a function that runs in a thread when its run is cancelled; let it pass, clean up in `finally`."""


def _raise_in(thread: int, error: type[BaseException] | None) -> None:
    """Raise the error in the thread at its next instruction, or take back what was not raised yet."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread), None if error is None else ctypes.py_object(error)
    )


class _Run:
    """One function in one thread. `host` is the thread's side, `stop` and `ended` the loop's."""

    def __init__(self, work: Work, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.task = work.name
        self._fn, self._args, self._kwargs = work.fn, args, kwargs
        self._lock = threading.Lock()
        self._thread: int | None = None
        self._stopped = False
        self._on_end: Callable[[], None] | None = None
        self.ended = False
        self.value: Any = None
        self.error: BaseException | None = None

    def host(self) -> None:
        """Run the function; never raises. An injection may cut this anywhere, once: then `_close` runs again."""
        try:
            self._run()
        except ThreadCancelled as cut:  # after the function's end, before `ended` was known
            self.error = cut
            self._close()
        if self._on_end is not None:
            self._on_end()

    def _run(self) -> None:
        with self._lock:
            if self._stopped:
                self.ended = True
                return
            self._thread = threading.get_ident()
        try:
            self.value = self._fn(*self._args, **self._kwargs)
        except BaseException as error:  # noqa: BLE001 - it is raised again where the run was asked for
            self.error = error
        self._close()

    def _close(self) -> None:
        with self._lock:
            self.ended = True
            if self._stopped and self._thread is not None:
                _raise_in(self._thread, None)

    def stop(self, on_end: Callable[[], None]) -> bool:
        """Inject ThreadCancelled; False when the function had not begun, or has ended. Else `on_end` is called."""
        with self._lock:
            self._stopped = True
            if self._thread is None or self.ended:
                return False
            self._on_end = on_end
            _raise_in(self._thread, ThreadCancelled)
            return True


class ThreadMode:
    """Runs at most `limit` functions at once, each in a thread; the others wait. Open it with `async with`.

    A cancelled run returns within `grace` seconds, whatever its function does.
    """

    def __init__(self, limit: int, *, grace: float = GRACE_SECONDS) -> None:
        self.left_behind = 0  # threads whose runs were cancelled and that have not ended yet
        self._grace = grace
        self._limiter = anyio.CapacityLimiter(limit)
        self._unlimited = anyio.CapacityLimiter(math.inf)  # anyio's own tokens are given back too early on asyncio

    async def __aenter__(self) -> ThreadMode:
        return self

    async def __aexit__(self, *exc: object) -> None: ...

    async def run(self, work: Work, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return what the function returns, or raise what it raises."""
        run = _Run(work, args, kwargs)
        await self._limiter.acquire_on_behalf_of(run)
        try:
            await anyio.to_thread.run_sync(run.host, abandon_on_cancel=True, limiter=self._unlimited)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._stop(run)
            raise
        self._limiter.release_on_behalf_of(run)
        if run.error is not None:
            try:
                raise run.error
            finally:
                run.error = None  # else the error holds this frame, which holds the error
        return run.value

    async def _stop(self, run: _Run) -> None:
        """Stop the thread, and wait for it as long as the grace lasts."""
        ended = anyio.Event()
        token = anyio.lowlevel.current_token()

        def freed() -> None:
            self.left_behind -= 1
            self._limiter.release_on_behalf_of(run)
            ended.set()

        def on_end() -> None:
            try:
                anyio.from_thread.run_sync(freed, token=token)
            except anyio.RunFinishedError:
                return  # the loop is gone, and the limit with it

        if not run.stop(on_end):
            self._limiter.release_on_behalf_of(run)
            return
        self.left_behind += 1
        with anyio.move_on_after(self._grace):
            await ended.wait()
        if not ended.is_set():
            log.warning("task %s does not stop: it waits in C code, and its thread was left behind", run.task)
