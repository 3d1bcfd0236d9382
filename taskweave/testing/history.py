"""What many clients asked of a store at once, and what they were told: a list of events in the order they were seen.

A call begins with an Invoked and ends with an Answered, a Failed (refused, or proved not applied) or an Unsure (it may
have been applied, now or ever). The order of the list is the order of real time for all clients: where one call's end
stands before another's beginning, the first was over when the second began.

`Call` is one call with both its ends; judges (taskweave.testing.judging) read calls.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from attrs import define, frozen

from taskweave.abc import TaskStore
from taskweave.core.ids import Micros
from taskweave.core.verbs import Dump, Op, Stats
from taskweave.exceptions import StoreError, TaskweaveError

NEVER: Final = 1 << 62  # the end of a call whose outcome nobody knows


@frozen
class Invoked:
    client: int
    call: int
    op: Op[Any]


@frozen
class Answered:
    call: int
    answer: Any


@frozen
class Failed:
    call: int
    problem: str


@frozen
class Unsure:
    call: int
    problem: str


Event: TypeAlias = Invoked | Answered | Failed | Unsure


@frozen
class Call:
    """One call. `began` and `ended` are places in the history; `answer` is None where there was none."""

    client: int
    op: Op[Any]
    began: int
    ended: int
    answer: Any = None
    unsure: bool = False


@define
class History:
    """Events as they come, with what the store held at the end."""

    events: list[Event]
    dump: Dump | None = None
    stats: Stats | None = None
    now: Micros = 0  # store time of the last dump

    def calls(self) -> list[Call]:
        """The calls that took effect, or may have; in the order in which they began."""
        invoked: dict[int, tuple[int, Invoked]] = {}
        calls: list[Call] = []
        for place, event in enumerate(self.events):
            if isinstance(event, Invoked):
                invoked[event.call] = place, event
                continue
            began, call = invoked.pop(event.call)
            if isinstance(event, Answered):
                calls.append(Call(call.client, call.op, began, place, event.answer))
            elif isinstance(event, Unsure):
                calls.append(Call(call.client, call.op, began, NEVER, None, unsure=True))
        calls += [Call(call.client, call.op, began, NEVER, None, unsure=True) for began, call in invoked.values()]
        return sorted(calls, key=lambda call: call.began)


class Recorder:
    """Applies ops and writes down what happened; one for all clients of a run, in one event loop."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.transient = False  # the last call failed in a way that passes
        self._calls = 0

    async def apply(self, client: int, store: TaskStore, op: Op[Any]) -> Any:
        """The answer, or None where there was none. Only what a store may raise is caught."""
        self._calls += 1
        call = self._calls
        self.events.append(Invoked(client, call, op))
        self.transient = False
        try:
            answer = await store.apply(op)
        except StoreError as error:
            end = Failed if error.applied == "no" else Unsure
            self.events.append(end(call, str(error)))
            self.transient = error.transient
            return None
        except TaskweaveError as error:
            self.events.append(Failed(call, str(error)))
            return None
        self.events.append(Answered(call, answer))
        return answer
