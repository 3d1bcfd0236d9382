"""The order in which ready jobs start: (rank, run_at, seq), smallest first.

Without aging the rank is the negated priority, so that priority decides and time breaks ties. With aging the rank
is linear in time, 0 and run_at − priority × step: one step of priority is worth `aging_us` of waiting, so that no
job waits for ever behind a stream of larger priorities, and an ordinary index serves the order. The rank is fixed
when the job enters the order; only retry, snooze and update change it.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TypeAlias

from taskweave.core.ids import Micros

Rank: TypeAlias = tuple[int, int]


class Priority(IntEnum):
    """Named priorities; any integer of 16 bits is one, and larger ones start first."""

    LOW = -10
    NORMAL = 0
    HIGH = 10
    CRITICAL = 20


def rank(priority: int, run_at: Micros, aging_us: Micros | None) -> Rank:
    """Return the first two parts of the order; the third is seq."""
    if aging_us is None:
        return -priority, run_at
    return 0, run_at - priority * aging_us
