"""The wall clock that embedded stores take store time from when none is given to them."""

from __future__ import annotations

import time

from taskweave.core.ids import Micros


class SystemClock:
    """The machine's wall clock; tests and the simulator bring their own."""

    def wall(self) -> Micros:
        return time.time_ns() // 1_000
