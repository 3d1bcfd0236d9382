"""The schema and its versions: found, made, brought up to date and removed, by as many processes at once as there are.

DDL commits by itself here, so a migration cannot be undone half way. Each is therefore such that it can be run again
from its beginning, and the version is written last. Whoever changes the schema holds a named lock of the namespace,
which ends with the connection, and looks again once it has it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from attrs import frozen

from taskweave.core.ids import Micros
from taskweave.exceptions import NotAStore, SchemaTooNew, SchemaTooOld, StoreMissing, StoreRefused, StoreUnavailable
from taskweave.stores._mysql.address import NAMESPACE, checked_namespace
from taskweave.stores._mysql.driver import Connection, errors
from taskweave.stores._mysql.link import MySQLLink
from taskweave.stores._mysql.pool import is_mariadb
from taskweave.stores._mysql.statements import (
    COLLATION,
    COLLATION_OF_MYSQL,
    VERSION,
    migrations,
    statements,
)

LOCK_WAIT_S: Final = 8
_MISSING_RIGHTS: Final = frozenset({1044, 1142, 1227})
_NO_TABLE: Final = 1146


@frozen
class Found:
    """What is there: version None where the namespace holds nothing of ours."""

    version: int | None
    collation: str


async def bring_up(
    connection: Connection, namespace: str, url: str, *, create: bool, read_only: bool, aging_us: Micros | None
) -> Found:
    """See that the namespace is a store of this version, and take over settings that live in it.

    Raises StoreMissing, NotAStore, SchemaTooNew, SchemaTooOld, StoreRefused, StoreUnavailable.
    """
    collation = COLLATION if is_mariadb(connection) else COLLATION_OF_MYSQL
    link = MySQLLink(connection, statements(namespace, collation))
    version = _checked(await look(link, url), url, create=create and not read_only)
    if version is not None and version < VERSION and read_only:
        raise SchemaTooOld(url, f"its schema is version {version}, this taskweave needs {VERSION}")
    if version is None or version < VERSION:
        await _lock(link, url)
        try:
            await _migrate(link, namespace, collation, url, _checked(await look(link, url), url, create=create))
        finally:
            if connection.connected:
                await link.execute("unlock_schema")
    if aging_us is not None and not read_only:
        await link.execute("meta_aging", aging_us or None)
    return Found(version, collation)


async def look(link: MySQLLink, url: str) -> int | None:
    """The schema version of this namespace, None where it holds nothing. Raises NotAStore, StoreMissing."""
    tables = {str(name).rpartition("_")[2]: engine for name, engine in await link.fetch("tables")}
    strange = [f"{name} is kept by {engine}" for name, engine in tables.items() if engine != "InnoDB"]
    if strange:
        raise NotAStore(url, f"its table {strange[0]}, an engine without transactions; give it the engine InnoDB")
    if "meta" not in tables:
        return None
    try:
        found = await link.fetch("version_read")
    except errors.ProgrammingError as error:
        if error.args[0] == _NO_TABLE:
            return None  # it was dropped since
        raise
    if not found:
        return None  # its first migration is under way, or broke off: it will be run again
    return int(found[0][0])


def _checked(version: int | None, url: str, *, create: bool) -> int | None:
    if version is None and not create:
        raise StoreMissing(url, "there is nothing of taskweave in its namespace")
    if version is not None and version > VERSION:
        raise SchemaTooNew(url, f"its schema is version {version}, this taskweave knows {VERSION}")
    return version


async def _lock(link: MySQLLink, url: str) -> None:
    ((got,),) = await link.fetch("lock_schema", LOCK_WAIT_S)
    if got != 1:
        raise StoreUnavailable(url, f"another process has been changing its schema for more than {LOCK_WAIT_S} s")


async def _migrate(link: MySQLLink, namespace: str, collation: str, url: str, version: int | None) -> None:
    try:
        for number, _, script in migrations(namespace, collation):
            if number > (version or 0):
                for statement in split(script):
                    await link.run(statement.encode())
                await link.execute("version_write", number)
    except errors.MySQLError as error:
        if error.args[0] not in _MISSING_RIGHTS:
            raise
        if version is None:
            raise StoreRefused(url, f"the user may not create its tables ({error.args[1]})") from error
        problem = f"its schema is version {version}, this taskweave needs {VERSION}, and the user may not change it"
        raise SchemaTooOld(url, f"{problem} ({error.args[1]})") from error


async def drop(link: MySQLLink) -> None:
    """Remove everything of the namespace."""
    await link.execute("drop")


def split(script: str) -> Iterator[str]:
    """The statements of a script, one by one: each ends with a semicolon at the end of a line."""
    lines = [line for line in script.splitlines() if not line.startswith("--")]
    for statement in "\n".join(lines).split(";\n"):
        if statement.strip():
            yield statement.strip().removesuffix(";")


def schema_sql(namespace: str = NAMESPACE) -> str:
    """All migrations as one script, for those who run it with rights that workers do not have."""
    found = migrations(checked_namespace(namespace))
    return "\n\n".join([f"-- {name}\n{script}" for _, name, script in found]) + "\n"
