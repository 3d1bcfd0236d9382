"""Wake-ups across processes: one small thread that asks SQLite whether anyone else has committed.

`PRAGMA data_version` of a connection changes when another connection has written; asking costs microseconds and reads
no page. The thread lives only while someone listens, on a connection of its own that never writes. A hint is all it
gives: when it cannot read, it says so once in the log and goes on trying, and its listeners are left with polling.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable
from typing import Final

from taskweave.exceptions import StoreError
from taskweave.stores._sqlite.connection import Settings, connect

PERIOD_S: Final = 0.010
RETRY_S: Final = 1.0  # after an error
log = logging.getLogger("taskweave.stores.sqlite")


class Watch:
    """Calls `changed` from its thread whenever another connection has committed, and once when it begins to look."""

    def __init__(self, settings: Settings, changed: Callable[[], None]) -> None:
        self._settings = settings
        self._changed = changed
        self._stop = threading.Lock()  # held until `stop`; to wait for it costs a quarter less than for an Event
        self._stop.acquire()
        self._thread = threading.Thread(target=self._look, name="taskweave-sqlite-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it: at most as long as one look takes."""
        self._stop.release()
        self._thread.join()

    def _look(self) -> None:
        told = False
        while True:
            try:
                self._look_until_error()
                return
            except (sqlite3.Error, StoreError) as error:
                if not told:
                    log.warning("no wake-ups from other processes, polling goes on: %s: %s", self._settings.url, error)
                    told = True
                if self._stop.acquire(timeout=RETRY_S):
                    return

    def _look_until_error(self) -> None:
        connection = connect(self._settings)
        try:
            ask = connection.cursor().execute
            seen = -1
            while True:
                (version,) = ask("PRAGMA data_version").fetchone()
                if version != seen:
                    seen = version
                    self._changed()
                if self._stop.acquire(timeout=PERIOD_S):
                    return
        finally:
            connection.close()
