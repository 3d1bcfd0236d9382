"""One verb on one connection: the transaction around it, store time, and the rows it loads and saves.

Everything here is synchronous and knows no thread: the driver's thread, a simulator and a test call it alike.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, Final

from taskweave.core.ids import JobId, Micros
from taskweave.core.life import holds_key
from taskweave.stores._sqlite.connection import Settings
from taskweave.stores._sqlite.rows import Record, Row, edited, row_of, saved
from taskweave.stores._sqlite.statements import statement

_META: Final = statement("meta_read")
_BY_ID: Final = statement("jobs_by_id")
_BY_SEQ: Final = statement("jobs_by_seq")
_BY_KEY: Final = statement("job_by_key")
_FREE_KEY: Final = statement("job_free_key")
_SAVE: Final = statement("job_save")
_EDIT: Final = statement("job_edit")
_DELETE: Final = statement("job_delete")
_REMOVED: Final = statement("meta_removed")


class Turn:
    """What a verb works with: a cursor, the store time of this verb, and the settings that live in the file."""

    __slots__ = (
        "aging_us",
        "connection",
        "cursor",
        "floor",
        "jobs",
        "next_seq",
        "now",
        "rerank_after",
        "run",
        "settings",
    )

    def __init__(self, connection: sqlite3.Connection, at: Micros | None, settings: Settings) -> None:
        self.connection = connection
        self.settings = settings
        self.cursor = connection.cursor()
        self.run = self.cursor.execute
        self.floor, self.next_seq, self.jobs, self.aging_us, self.rerank_after = self.run(_META).fetchone()
        now: Micros = self.settings.clock.wall() if at is None else at
        self.now: Micros = max(now, self.floor)

    # --- reading rows ---

    def rows_by_id(self, ids: Iterable[JobId]) -> dict[JobId, Row]:
        return {row.spec.id: row for row in map(row_of, self.run(_BY_ID, (listed(ids),)).fetchall())}

    def rows_by_seq(self, seqs: Iterable[int]) -> dict[int, Row]:
        return self.rows_by_seq_text(listed(seqs))

    def rows_by_seq_text(self, seqs: str) -> dict[int, Row]:
        """Those of a list that is JSON already."""
        return {row.seq: row for row in map(row_of, self.run(_BY_SEQ, (seqs,)).fetchall())}

    def row(self, id: JobId) -> Row | None:
        return self.rows_by_id((id,)).get(id)

    def holder(self, key: str) -> Row | None:
        """The row that keeps others with this unique key out now."""
        record: Record | None = self.run(_BY_KEY, (key,)).fetchone()
        row = None if record is None else row_of(record)
        return row if row is not None and holds_key(row, self.now) else None

    def ordered(self, sql: str, parameters: Sequence[Any]) -> sqlite3.Cursor:
        """A cursor of its own, to be stepped lazily."""
        return self.connection.cursor().execute(sql, parameters)

    # --- writing rows ---

    def save(self, row: Row) -> None:
        """The row has taken a step of its life."""
        self.run(_SAVE, saved(row, self.now, self.aging_us))

    def edit(self, row: Row) -> None:
        """The row became another job's content, or another due time; it takes its unique key again if that is free."""
        if row.key is not None:
            self.run(_FREE_KEY, (row.key,))
            row.key = None
        unique = row.spec.unique
        if unique is not None and holds_key(row, self.now) and self.holder(unique.key) is None:
            self.run(_FREE_KEY, (unique.key,))  # a lapsed window
            row.key = unique.key
        self.run(_EDIT, edited(row))
        self.save(row)

    def remove(self, seqs: Sequence[int]) -> None:
        if seqs:
            self.run(_DELETE, (listed(seqs),))
            self.run(_REMOVED, (len(seqs),))
            self.jobs -= len(seqs)


def listed(values: Iterable[JobId] | Iterable[int]) -> str:
    """Values as one parameter, for IN (SELECT value FROM json_each(?))."""
    return json.dumps(list(values))
