"""Functions for thread mode."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable

word: contextvars.ContextVar[str] = contextvars.ContextVar("word", default="none")


def add(a: int, b: int = 1) -> int:
    return a + b


def thread_id() -> int:
    return threading.get_ident()


def fail(error: BaseException) -> None:
    raise error


def say() -> str:
    heard = word.get()
    word.set("changed in the thread")
    return heard


def spin(started: threading.Event, ended: threading.Event) -> None:
    try:
        started.set()
        while True:
            pass
    finally:
        ended.set()


def hold(started: threading.Event, gate: threading.Lock, after: Callable[[], None]) -> None:
    """One call into C that ends when the test releases the lock."""
    started.set()
    gate.acquire()
    gate.release()
    after()


def nap(seconds: float) -> None:
    time.sleep(seconds)
