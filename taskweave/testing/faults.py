"""The level faults: the workload of sixteen clients while its server is restarted, killed and cut off.

The faults are hooks of the maker of stores, async functions of no argument: `restart` (an orderly end and a new start),
`kill` (no end at all, and a new start), `cut_before` (the next write's connection is cut before the server has it),
`cut_after` (likewise, once the server has done it). A client whose call has no sure answer sends
the same op again, as the engine does; that such calls came about is a check of its own, since a fault that did not
happen proves nothing.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Final

import anyio

from taskweave.testing.comparing import Disagreement
from taskweave.testing.concurrent import WORK, workload
from taskweave.testing.history import Failed, History, Unsure
from taskweave.testing.judging import JUDGES, judging
from taskweave.testing.several import Asked, Fresh
from taskweave.testing.skipping import HOOKS

ROUNDS: Final = 3
BETWEEN_S: Final = 0.15


async def check_faults(run: Fresh) -> AsyncGenerator[Asked]:
    """For each fault a workload under it, whether it was felt, and each judge."""
    for fault in HOOKS:
        history = History([])
        inject: Callable[[], Awaitable[None]] = getattr(getattr(run, "make_store"), fault)  # noqa: B009

        yield f"{WORK}_under_{fault}", ("I30",), _working(run, history, inject)
        yield f"{fault}_was_felt", ("I30",), _felt(history)
        for name, (judge, proves) in JUDGES.items():
            yield f"{fault}_history_{name}", proves, judging(judge, history)


def faults_names() -> list[str]:
    names: list[str] = []
    for fault in HOOKS:
        names += [f"{WORK}_under_{fault}", f"{fault}_was_felt", *(f"{fault}_history_{name}" for name in JUDGES)]
    return names


def _working(run: Fresh, history: History, inject: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    async def harm() -> None:
        for _ in range(ROUNDS):
            await anyio.sleep(BETWEEN_S)
            await inject()

    async def call() -> None:
        async with run.fresh() as store:
            recorded = await workload(store, getattr(run, "seed", 0), beside=harm)
            history.events, history.dump, history.stats = recorded.events, recorded.dump, recorded.stats

    return call


def _felt(history: History) -> Callable[[], Awaitable[None]]:
    async def call() -> None:
        felt: list[Any] = [event for event in history.events if isinstance(event, Unsure | Failed)]
        if not felt:
            raise Disagreement("no call was disturbed, so nothing was shown")

    return call
