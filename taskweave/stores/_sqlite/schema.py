"""The schema and its versions: forward migrations, each one transaction, and the marks by which a store is known.

`application_id` says that a SQLite file is ours, so that a foreign database is never written to; `user_version` is
the schema version. An empty file is a new store.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Final

from taskweave.exceptions import NotAStore, SchemaTooNew, StoreMissing
from taskweave.stores._sqlite.connection import Settings, StoreConnection, patiently
from taskweave.stores._sqlite.statements import migrations, statement

APPLICATION_ID: Final = 0x74776A62  # "twjb"
VERSION: Final = max(version for version, _, _ in migrations())


def version_of(connection: sqlite3.Connection) -> int | None:
    """The schema version of this file, 0 when it is empty, None when it is not ours. Raises sqlite3.Error."""
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application_id == APPLICATION_ID:
        return int(version)
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return None if tables or version or application_id else 0


def bring_up(connection: StoreConnection) -> None:
    """See that the file is a store of this version; settings that live in the file are taken over.

    Raises NotAStore for a foreign file, SchemaTooNew, StoreMissing for an empty one that may not be created.
    """
    settings = connection.settings
    version = patiently(lambda: _checked(connection, settings))
    if settings.read_only:
        if version < VERSION:
            raise StoreMissing(settings.url, "it was never initialised")
        return
    (mode,) = patiently(lambda: connection.execute("PRAGMA journal_mode").fetchone())
    if mode != "wal":
        patiently(lambda: connection.execute("PRAGMA journal_mode=WAL").fetchone())
    patiently(lambda: _write_once(connection, settings))


def only_read(connection: StoreConnection) -> None:
    """Prepare a second connection to a file that was brought up already: it never waits for the write lock."""
    connection.execute("PRAGMA query_only=ON")


def _checked(connection: StoreConnection, settings: Settings) -> int:
    version = version_of(connection)
    if version is None:
        raise NotAStore(settings.url, "it is the SQLite database of another program")
    if version > VERSION:
        raise SchemaTooNew(settings.url, f"its schema is version {version}, this taskweave knows {VERSION}")
    if version == 0 and not settings.create:
        raise StoreMissing(settings.url, "the file is empty")
    return version


def _write_once(connection: StoreConnection, settings: Settings) -> None:
    """Migrate and take over settings under the write lock, having seen that the file can be written."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = _checked(connection, settings)  # another process may have migrated meanwhile
        for number, _, script in migrations():
            if number > version:
                for sql in split(script):
                    connection.execute(sql)
                connection.execute(f"PRAGMA user_version={number}")
        if version == 0:
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute(statement("prove_writable"))  # BEGIN alone is content with a file that cannot be written
        if settings.aging_us is not None:
            wanted = settings.aging_us or None
            (before,) = connection.execute("SELECT aging_us FROM meta").fetchone()
            if before != wanted:
                connection.execute(statement("meta_aging"), (wanted,))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def split(script: str) -> Iterator[str]:
    """The statements of a script, one by one."""
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            yield pending.strip()
            pending = ""
    if pending.strip():
        raise ValueError(f"a migration ends in the middle of a statement: {pending!r}")


def schema_sql() -> str:
    """All migrations as one script, with the marks that they leave."""
    parts = [f"-- {name}\n{script.strip()}\nPRAGMA user_version={number};" for number, name, script in migrations()]
    return "\n\n".join([f"PRAGMA application_id={APPLICATION_ID};", *parts]) + "\n"
