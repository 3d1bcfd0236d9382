"""A store whose answers get lost: a fault harness around a real store, which does all the work.

Each op may meet a planted outage, drawn from a seed: before it is applied (nothing happened) or after (it happened,
and nobody is told). What is raised is what a store behind a network raises, with `applied` as such a store knows it:
"no" only where it is proved, "unknown" otherwise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from contextlib import AbstractAsyncContextManager
from random import Random
from typing import Any, Literal, Self, TypeVar

from attrs import define, field

from taskweave.abc import Listens, TaskStore, Wakeups
from taskweave.core.ids import Micros
from taskweave.core.verbs import Op
from taskweave.exceptions import StoreUnavailable

A = TypeVar("A")
Where = Literal["before", "after"]


@define
class Faults:
    """Which ops fail, shared by all stores on the same jobs; `injected` counts what was planted, by verb and place."""

    plan: Callable[[Op[Any]], Where | None]
    injected: Counter[tuple[str, str]] = field(factory=Counter[tuple[str, str]])

    @classmethod
    def drawn(cls, seed: int, probability: float, most: int) -> Faults:
        """Every op fails with this probability, until `most` have: then the outage is over."""
        random = Random(seed)
        left = most

        def plan(_: Op[Any]) -> Where | None:
            nonlocal left
            if not left or random.random() >= probability:
                return None
            left -= 1
            return "before" if random.random() < 0.5 else "after"

        return cls(plan)

    @classmethod
    def lost(cls, verb: str, *places: Where) -> Faults:
        """The first ops of this verb fail at these places."""
        left = list(places)
        return cls(lambda op: left.pop(0) if op.name == verb and left else None)


class Flaky:
    """The store behind it, with faults."""

    def __init__(self, inner: TaskStore, faults: Faults) -> None:
        self.inner, self.faults = inner, faults

    @property
    def url(self) -> str:
        return self.inner.url

    async def __aenter__(self) -> Self:
        await self.inner.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.inner.__aexit__(*exc)

    async def apply(self, op: Op[A], *, at: Micros | None = None) -> A:
        where = self.faults.plan(op)
        if where is None:
            return await self.inner.apply(op, at=at)
        if where == "after":
            await self.inner.apply(op, at=at)
        self.faults.injected[op.name, where] += 1
        raise StoreUnavailable(self.url, f"planted {where} {op.name}", "unknown")

    def another(self) -> Flaky:
        return Flaky(self.inner.another(), self.faults)

    def listen(self, queues: Collection[str]) -> AbstractAsyncContextManager[Wakeups]:
        assert isinstance(self.inner, Listens)
        return self.inner.listen(queues)
