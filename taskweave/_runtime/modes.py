"""Where functions run when not in the loop: threads, processes, and what users plug in.

Each mode is entered when its first job comes and left when the worker ends.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import anyio

from taskweave._runtime.threads import ThreadMode
from taskweave._runtime.work import RunMode, Work

if TYPE_CHECKING:
    from taskweave._runtime.process import ProcessMode


class Modes:
    """The run modes of one worker, opened on first use."""

    def __init__(self, slots: int, processes: int | None) -> None:
        self._slots, self._processes = slots, processes
        self._stack = AsyncExitStack()
        self._entered: dict[int, RunMode] = {}
        self._entering = anyio.Lock()
        self._process: ProcessMode | None = None
        self._thread: RunMode = ThreadMode(slots)

    async def __aenter__(self) -> Modes:
        await self._stack.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def elsewhere(self, work: Work, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the function in its thread, or in the user's mode."""
        mode = self._thread if isinstance(work.run_in, str) else work.run_in
        if id(mode) not in self._entered:
            await self._enter(mode)
        return await mode.run(work, args, kwargs)

    async def _enter(self, mode: RunMode) -> None:
        """Enter it once, and before its first run, however many jobs want it at the same time."""
        async with self._entering:
            if id(mode) not in self._entered:
                await self._stack.enter_async_context(mode)
                self._entered[id(mode)] = mode

    async def process(self) -> ProcessMode:
        """The pool of child processes; its module is imported, and children started, only when a job needs them."""
        if self._process is None:
            from taskweave._runtime.process import ProcessMode

            self._process = ProcessMode(self._processes)
            await self._stack.enter_async_context(self._process)
        return self._process
