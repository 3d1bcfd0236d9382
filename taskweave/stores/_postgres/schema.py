"""The schema and its versions: found, made, brought up to date and removed, by as many processes at once as there are.

Whoever changes the schema holds an advisory lock of the namespace until it commits, and looks again once it has it.
A namespace is a store when its schema has our `meta` with a version in it; an empty schema that is there becomes one.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from attrs import frozen

from taskweave.core.ids import Micros
from taskweave.exceptions import NotAStore, SchemaTooNew, SchemaTooOld, StoreMissing, StoreRefused
from taskweave.stores._postgres.address import NAMESPACE, checked_namespace
from taskweave.stores._postgres.driver import Connection, asyncpg
from taskweave.stores._postgres.pool import begin_sql
from taskweave.stores._postgres.statements import VERSION, migrations, statements

POSTGRES_OLDEST: Final = 130_000
RELATIONS: Final = ("meta", "claim", "pause", "job")


@frozen
class Found:
    """What is there: version None where the namespace holds nothing of ours."""

    version: int | None
    schema: bool  # whether its schema exists
    server: int  # 150004 for 15.4
    backend_pid: int


async def look(connection: Connection, namespace: str, url: str) -> Found:
    """What lies at this address; call it inside a transaction. Raises NotAStore, StoreRefused."""
    named = statements(namespace)
    ((server, encoding, pid, schema, relations, unlogged),) = await connection.fetch(
        named["look"], namespace, list(RELATIONS)
    )
    if server < POSTGRES_OLDEST:
        raise StoreRefused(url, f"the server is PostgreSQL {server // 10_000}; 13 is the oldest that works")
    if encoding != "UTF8":
        raise StoreRefused(url, f"the encoding of the database is {encoding}; it has to be UTF8")
    if unlogged:
        raise NotAStore(url, f"its table {unlogged} is UNLOGGED and would be empty after a crash; make it LOGGED")
    if "meta" not in relations:
        if relations:
            raise NotAStore(url, f"its schema has a table {relations[0]} of another program")
        return Found(None, schema, server, pid)
    found = await connection.fetch(named["version_read"])
    if not found:
        raise NotAStore(url, "its table meta is empty")
    return Found(int(found[0][0]), schema, server, pid)


async def bring_up(
    connection: Connection, namespace: str, url: str, *, create: bool, read_only: bool, aging_us: Micros | None
) -> Found:
    """See that the namespace is a store of this version, and take over settings that live in it.

    Raises StoreMissing, NotAStore, SchemaTooNew, SchemaTooOld, StoreRefused.
    """
    await connection.execute(begin_sql("BEGIN", pooled=True))
    try:
        found = _checked(await look(connection, namespace, url), url, create=create and not read_only)
        if not read_only and (found.version or 0) < VERSION:
            await connection.fetch(statements(namespace)["schema_lock"], lock_number(namespace))
            found = _checked(await look(connection, namespace, url), url, create=create)
            await _migrate(connection, namespace, url, found)
        elif found.version is not None and found.version < VERSION:
            raise SchemaTooOld(url, f"its schema is version {found.version}, this taskweave needs {VERSION}")
        if aging_us is not None and not read_only:
            await connection.execute(statements(namespace)["meta_aging"], aging_us or None)
        await connection.execute("COMMIT")
    except BaseException:
        if not connection.is_closed() and connection.is_in_transaction():
            await connection.execute("ROLLBACK")
        raise
    return found


def _checked(found: Found, url: str, *, create: bool) -> Found:
    if found.version is None and not create:
        raise StoreMissing(url, "there is nothing of taskweave in its namespace")
    if found.version is not None and found.version > VERSION:
        raise SchemaTooNew(url, f"its schema is version {found.version}, this taskweave knows {VERSION}")
    return found


async def _migrate(connection: Connection, namespace: str, url: str, found: Found) -> None:
    named = statements(namespace)
    try:
        if not found.schema:
            await connection.execute(named["schema_create"])
        for number, _, script in migrations(namespace):
            if number > (found.version or 0):
                await connection.execute(script)
                await connection.execute(named["version_write"], number)
    except asyncpg.InsufficientPrivilegeError as error:
        if found.version is None:
            raise StoreRefused(url, f"the user may not create the schema ({error})") from error
        problem = (
            f"its schema is version {found.version}, this taskweave needs {VERSION}, and the user may not change it"
        )
        raise SchemaTooOld(url, f"{problem} ({error})") from error


async def drop(connection: Connection, namespace: str) -> None:
    """Remove everything of the namespace; its schema too, if nothing else is in it."""
    named = statements(namespace)
    await connection.execute(begin_sql("BEGIN", pooled=True))
    try:
        await connection.fetch(named["schema_lock"], lock_number(namespace))
        await connection.execute(named["schema_empty"])
        ((others,),) = await connection.fetch(named["schema_others"], namespace)
        if not others:
            await connection.execute(named["schema_drop"])
        await connection.execute("COMMIT")
    except BaseException:
        if not connection.is_closed() and connection.is_in_transaction():
            await connection.execute("ROLLBACK")
        raise


def lock_number(namespace: str) -> int:
    """The advisory lock of this namespace: 64 bits, signed."""
    return int.from_bytes(blake2b(f"taskweave:{namespace}".encode(), digest_size=8).digest(), "big", signed=True)


def schema_sql(namespace: str = NAMESPACE) -> str:
    """All migrations as one script, for those who run it with rights that workers do not have."""
    named = statements(checked_namespace(namespace))
    parts = ["BEGIN;", named["schema_create"]]
    for number, name, script in migrations(namespace):
        parts += [f"-- {name}\n{script}", named["version_write"].replace("$1", str(number))]
    return "\n\n".join([*parts, "COMMIT;"]) + "\n"
