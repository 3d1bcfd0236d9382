"""Where claims begin to read while dead rows stand at the head of the queue; nothing of it happens in quiet times.

PostgreSQL removes a row that was claimed and finished only when no transaction can see it any more. While somebody
holds an old snapshot (a backup, a forgotten BEGIN), each claim would read all dead entries of its lanes again, and more
of them with each job. A worker that has met many remembers how far its lanes were read, and begins there. What came
to stand before that place meanwhile, a job of a larger priority or one that was given back, is not seen so; it is found
by the look from the beginning that is taken every second, or more rarely if that look itself is long: it may cost a
twentieth of the time. A look that meets few dead entries ends all this, and it begins only when looks have met many for
PERSISTS_S: what dies by a purge, say, is met once and then marked by the server, and must not cost the exact order.

Pure: time comes in, and what was read.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from attrs import define, field

READ_MAX: Final = 2_000  # entries that a claim reads in vain without being thought long
LOOK_EVERY_S: Final = 1.0
SHARE: Final = 20  # a look from the beginning takes at most one part in so many
PERSISTS_S: Final = 2.0
LANES_MAX: Final = 1_000

Lane = tuple[str, str]  # queue, task
Place = tuple[int, int, int]  # rank, seq


@define
class Heads:
    """How far the lanes of one store were read. Mutable; asked before and told after each exchange."""

    places: dict[Lane, Place] = field(factory=dict[Lane, Place])
    looked_at: float = 0.0  # when the last look from the beginning ended
    look_took: float = 0.0
    long_since: float | None = None  # every look since then met many

    def begin(self, now: float) -> dict[Lane, Place]:
        """Where the claim that is about to be sent begins; nothing where it looks from the beginning."""
        if not self.places or now - self.looked_at >= max(LOOK_EVERY_S, SHARE * self.look_took):
            return {}
        return dict(self.places)

    def read(self, began: bool, entries: int, reached: Iterable[tuple[Lane, Place]], now: float, took: float) -> None:
        """A claim has been answered: whether it began at places, and how many entries it read in vain, up to which."""
        if not began:
            self.looked_at, self.look_took = now, took
            if entries <= READ_MAX:
                self.long_since = None
                self.places.clear()
                return
            self.long_since = now if self.long_since is None else self.long_since
            if now - self.long_since < PERSISTS_S:
                return
        for lane, place in reached:
            if lane in self.places or len(self.places) < LANES_MAX:
                self.places[lane] = place
