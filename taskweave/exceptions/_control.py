"""Control by raising, inside a task."""

from __future__ import annotations


class Control(Exception):
    """What a task raises to say how its attempt ends; not an error."""


class Snooze(Control):
    """Run this job again after `delay`; the attempt is given back."""

    def __init__(self, delay: object, reason: str = "") -> None:
        super().__init__(delay, reason)
        self.delay, self.reason = delay, reason


class RetryAfter(Control):
    """Run this job again after `delay`, as a spent attempt; failed when the attempts are spent."""

    def __init__(self, delay: object, reason: str = "") -> None:
        super().__init__(delay, reason)
        self.delay, self.reason = delay, reason


class Cancel(Control):
    """End this job as cancelled, without a retry."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class Abort(Control):
    """End this job as failed, without a retry."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
