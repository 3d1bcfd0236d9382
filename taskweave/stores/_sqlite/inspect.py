"""What a store can say of itself: facts for `taskweave doctor`, and what is wrong with it for `store check`.

The check looks at three things: the file (integrity), the schema (every table, index and view as the migrations make
them), and the rows (invariant I26: each job has exactly the columns that its state calls for, and every derived
column is what the core derives). It reads everything, so it takes as long as the store is large.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from taskweave.core.job import State
from taskweave.core.life import fragile, holds_key
from taskweave.core.ready import rank
from taskweave.stores._sqlite.checkpoint import wal_bytes
from taskweave.stores._sqlite.connection import StoreConnection
from taskweave.stores._sqlite.rows import NUMBER, Row, chores, row_of
from taskweave.stores._sqlite.schema import VERSION, split, version_of
from taskweave.stores._sqlite.statements import migrations, statement
from taskweave.stores._sqlite.turn import Turn

WAL_RESET_FIXED: Final = (3, 51, 3)
PROBLEMS_MAX: Final = 100

_WHOLE: Final = statement("dump_jobs")
_DERIVED: Final = statement("check_derived")
_COUNTED: Final = statement("check_counts")


def facts(connection: StoreConnection) -> dict[str, Any]:
    """What is worth knowing about this file and this SQLite; sizes in bytes."""

    def pragma(name: str) -> Any:
        return connection.execute(f"PRAGMA {name}").fetchone()[0]

    path = connection.settings.path
    return {
        "path": path,
        "sqlite_version": sqlite3.sqlite_version,
        "wal_reset_bug": sqlite3.sqlite_version_info < WAL_RESET_FIXED,
        "schema_version": version_of(connection),
        "journal_mode": pragma("journal_mode"),
        "synchronous": {0: "OFF", 1: "NORMAL", 2: "FULL", 3: "EXTRA"}[pragma("synchronous")],
        "survives": "power loss" if pragma("synchronous") >= 2 else "process crash",
        "size_bytes": os.stat(path).st_size,
        "free_bytes_inside": pragma("freelist_count") * pragma("page_size"),
        "wal_bytes": wal_bytes(path),
        "aging_us": connection.execute("SELECT aging_us FROM meta").fetchone()[0],
        "jobs": connection.execute("SELECT jobs FROM meta").fetchone()[0],
        "file_mode": f"{stat.S_IMODE(os.stat(path).st_mode):04o}",
        "folder_open_to_others": _open_to_others(Path(path).parent),
        "checkpoint_problem": connection.checkpoint_problem,
    }


def _open_to_others(folder: Path) -> bool:
    """Whether other users may put a file of theirs in the place of ours."""
    mode = os.stat(folder).st_mode
    return bool(mode & (stat.S_IWOTH | stat.S_IWGRP)) and not mode & stat.S_ISVTX


def problems(connection: StoreConnection) -> list[str]:
    """Everything that is wrong, at most PROBLEMS_MAX of it, each as a sentence; empty for a store that is whole."""
    found: list[str] = []
    connection.execute("BEGIN")
    try:
        for problem in _problems(connection):
            found.append(problem)
            if len(found) == PROBLEMS_MAX:
                break
    finally:
        connection.execute("ROLLBACK")
    return found


def _problems(connection: StoreConnection) -> Iterator[str]:
    for (answer,) in connection.execute(f"PRAGMA integrity_check({PROBLEMS_MAX})").fetchall():
        if answer != "ok":
            yield f"integrity_check: {answer}"
    missing = list(_schema_problems(connection))
    yield from missing
    if not missing:
        yield from _row_problems(connection)


def _schema_problems(connection: StoreConnection) -> Iterator[str]:
    listing = "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    model = sqlite3.connect(":memory:", isolation_level=None)
    try:
        for _, _, script in migrations():
            for sql in split(script):
                model.execute(sql)
        wanted = {(kind, name): sql for kind, name, sql in model.execute(listing).fetchall()}
    finally:
        model.close()
    there = {(kind, name): sql for kind, name, sql in connection.execute(listing).fetchall()}
    for (kind, name), sql in wanted.items():
        if (kind, name) not in there:
            yield f"the {kind} {name} is missing; it was dropped by someone: {sql}"
        elif there[kind, name] != sql:
            yield f"the {kind} {name} is not what schema version {VERSION} says"
    for kind, name in there:
        if kind == "trigger":
            yield f"the trigger {name} is not taskweave's; it runs inside every write"


def _row_problems(connection: StoreConnection) -> Iterator[str]:
    turn = Turn(connection, None, connection.settings)
    jobs, most_seq, next_seq, counted = turn.run(_COUNTED).fetchone()
    if jobs != counted:
        yield f"meta counts {counted} jobs, there are {jobs}"
    if most_seq is not None and most_seq >= next_seq:
        yield f"the next seq is {next_seq}, but {most_seq} is taken"
    derived = turn.ordered(_DERIVED, ())
    for record in turn.ordered(_WHOLE, ()):
        columns = derived.fetchone()
        try:
            row = row_of(record)
        except (ValueError, TypeError, KeyError, IndexError) as error:
            yield f"job {record[2]} cannot be read: {type(error).__name__}: {error}"
            continue
        yield from (f"job {row.spec.id} ({row.life.state}): {lie}" for lie in _lies(turn, row, columns))


def _lies(turn: Turn, row: Row, columns: tuple[Any, ...]) -> Iterator[str]:
    """What of one row's columns does not follow from what the core knows about it."""
    _, is_fragile, rank_a, rank_b, aside, cancel_asked, claim, lease_until, finished_at, *chore = columns
    life, spec = row.life, row.spec
    running, finished = life.state is State.RUNNING, NUMBER[life.state] > NUMBER[State.RUNNING]
    if running != (lease_until is not None) or running != (claim is not None):
        yield "a lease belongs to running jobs, and to each of them"
    if running and life.hold is not None and not life.hold.claim_id:
        yield "its claim is missing"
    if finished != (finished_at is not None):
        yield "an end belongs to finished jobs, and to each of them"
    if aside and (life.state is not State.READY or row.expires_at is None):
        yield "only an expired ready job may be set aside"
    if bool(cancel_asked) != (life.hold is not None and life.hold.cancel is not None):
        yield "the mark of a cancel request is wrong"
    if bool(is_fragile) != fragile(spec, life.lost_count):
        yield "the mark of a fragile job is wrong"
    unstarted = not running and not finished
    if unstarted and turn.rerank_after is None and (rank_a, rank_b) != rank(spec.priority, life.run_at, turn.aging_us):
        yield "its rank does not follow from its priority and due time"
    if tuple(chore) != chores(row):
        yield "its next chore does not follow from its end and its retention"
    if row.key is not None and (spec.unique is None or spec.unique.key != row.key):
        yield f"it holds the key {row.key!r}, which is not its own"
    if row.key is None and holds_key(row, turn.now) and turn.holder(spec.unique.key if spec.unique else "") is None:
        yield "it should hold its unique key, which nobody does"
