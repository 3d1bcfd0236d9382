"""Rows in order of an instant: the one data structure behind every "what is next" of the queue machine.

An entry is (at, seq). What arrives in order, which is nearly everything, is appended to a run and costs the same at
any size; only what arrives out of order goes to a heap. Deletion is lazy: an entry that its row no longer points to
is skipped when it comes to the head, and swept when such entries are the majority, so that the space is proportional
to what is alive, not to what has been.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush
from typing import Final, TypeAlias

from taskweave.core.ids import Micros

Entry: TypeAlias = tuple[Micros, int]

_SWEEP_FROM: Final = 64  # stale entries, below which a sweep is not worth its cost


class Order:
    """Entries, smallest first; `valid` says of an entry whether its row still points to this very tuple."""

    __slots__ = ("_rest", "_run", "_valid", "live")

    def __init__(self, valid: Callable[[Entry], bool]) -> None:
        self._valid = valid
        self._run: deque[Entry] = deque()  # ascending
        self._rest: list[Entry] = []  # a heap
        self.live = 0

    def push(self, at: Micros, seq: int) -> Entry:
        """Add a row, and return the entry that it must point to for as long as it belongs here."""
        entry = (at, seq)
        run = self._run
        if not run or entry > run[-1]:
            run.append(entry)
        else:
            heappush(self._rest, entry)
        self.live += 1
        return entry

    def head(self) -> Entry | None:
        """The smallest valid entry, left where it is."""
        run, rest, valid = self._run, self._rest, self._valid
        while True:
            if run and not (rest and rest[0] < run[0]):
                if valid(run[0]):
                    return run[0]
                run.popleft()
            elif rest:
                if valid(rest[0]):
                    return rest[0]
                heappop(rest)
            else:
                return None

    def pop(self) -> Entry | None:
        """Remove what head() just returned, and return the head after it."""
        run, rest = self._run, self._rest
        if run and not (rest and rest[0] < run[0]):
            run.popleft()
        else:
            heappop(rest)
        self.live -= 1
        return self.head()

    def forget(self) -> None:
        """One entry became invalid: its row points elsewhere now."""
        self.live -= 1
        if len(self._run) + len(self._rest) > 2 * self.live + _SWEEP_FROM:
            self._run = deque(filter(self._valid, self._run))
            self._rest = list(filter(self._valid, self._rest))
            heapify(self._rest)

    def __len__(self) -> int:
        """How many entries there are, stale ones included."""
        return len(self._run) + len(self._rest)

    def __iter__(self) -> Iterator[Entry]:
        """The valid entries, in no particular order."""
        yield from filter(self._valid, self._run)
        yield from filter(self._valid, self._rest)
