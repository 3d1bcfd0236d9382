"""A server that takes a request and says nothing: the call ends at its deadline, and the store can be used again.

Nothing breaks here, so no error of the network tells anybody; only the store's deadline does. Three stores and three
silences wait at the same time, since each waits for the whole of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import anyio
import pytest
from proxy import Proxy, Where, nth
from server_fixtures import required
from servers import Server

from taskweave.abc import TaskStore
from taskweave.connect import connect
from taskweave.core.job import Spec
from taskweave.core.verbs import Count, Enqueue, Op, TakeDump
from taskweave.exceptions import StoreUnavailable

pytestmark = pytest.mark.anyio

DEADLINE_S, SLACK_S = 10.0, 6.0
KINDS = ("postgres", "mysql", "redis")
SPEC = Spec("j1", "t", "q", b"[]")
SILENCES: tuple[tuple[Where, Op[Any]], ...] = (
    ("silence", Enqueue((SPEC,))),
    ("deaf", Enqueue((SPEC,))),
    ("silence", Count()),
)


async def wait_in_silence(server: Server, where: Where, op: Op[Any]) -> None:
    url = server.url(f"silence_{uuid4().hex[:12]}")
    with Proxy(server) as proxy:
        async with connect(url) as direct, connect(proxy.url(url)) as behind:
            await behind.apply(TakeDump())
            proxy.plan = nth(1, where)
            began = time.monotonic()
            with pytest.raises(StoreUnavailable) as caught:
                await behind.apply(op)
            took = time.monotonic() - began
            assert proxy.injected == {where: 1}
            assert took < DEADLINE_S + SLACK_S, f"{server}: {took:.1f} s for {op.name} in {where}"
            if where == "deaf" and (await direct.apply(TakeDump())).jobs:
                assert caught.value.applied == "unknown", f"{server}: it was applied, and 'no' was said"
            proxy.heal()
            await _again(behind)
            assert [job.id for job in (await direct.apply(TakeDump())).jobs] == ["j1"]
            await direct.drop()  # type: ignore[attr-defined]  # an ability of stores on servers


async def _again(store: TaskStore) -> None:
    """Connections that lay idle were cut with the others, so it may need more than one."""
    with anyio.fail_after(DEADLINE_S):
        while True:
            try:
                await store.apply(Enqueue((SPEC,)))
                return
            except StoreUnavailable:
                await anyio.sleep(0.05)


async def test_silence_ends_with_the_deadline(shared_server: Callable[[str], Server]) -> None:
    for kind in KINDS:
        required(kind)
    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            for kind in KINDS:
                for where, op in SILENCES:
                    group.start_soon(wait_in_silence, shared_server(kind), where, op)
