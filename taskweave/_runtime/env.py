"""The one clock, the one source of randomness and ids of a process; everything else is handed an Env."""

from __future__ import annotations

import random
import time

from taskweave.core.ids import JobId, Micros, uuid7


class SystemEnv:
    """The machine's clocks and a generator seeded by the operating system (not for secrets)."""

    def __init__(self) -> None:
        self._random = random.Random()

    def now(self) -> Micros:
        return time.monotonic_ns() // 1_000

    def wall(self) -> Micros:
        return time.time_ns() // 1_000

    def random(self) -> float:
        return self._random.random()

    def new_id(self) -> JobId:
        return uuid7(time.time_ns() // 1_000, self._random.getrandbits(76))
