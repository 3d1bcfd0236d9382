"""What a store can say of itself: facts for `taskweave doctor`, and what is wrong with it for `store check`.

The check looks at the schema (the tables, columns and indexes that the migrations make, and no triggers), at the rows
(invariant I26) and at the claims, by which leases are found. It reads everything, so it takes as long as the store is
large; it holds one page of rows at a time.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from taskweave.stores._mysql.link import MySQLLink
from taskweave.stores._mysql.statements import VERSION, migrations
from taskweave.stores._server.inspect import PROBLEMS_MAX, problems_of
from taskweave.stores._server.turn import begin

PAGE: Final = 1_000

_TABLE: Final = re.compile(r"CREATE TABLE IF NOT EXISTS (\w+) \((.*?)\n\) ENGINE", re.DOTALL)
_INDEX: Final = re.compile(r"^    (UNIQUE )?INDEX (\w+) \(([^)]*)\)", re.MULTILINE)
_COLUMN: Final = re.compile(r"^    ([a-z]\w*) [A-Z]", re.MULTILINE)


async def facts(link: MySQLLink, namespace: str) -> dict[str, Any]:
    """What is worth knowing about this server and these tables; sizes in bytes."""
    (found,) = await link.fetch("facts")
    server, flush, doublewrite, read_only, packet, zone, most, sync, log_bin, size, jobs, version, aging_us = found
    history = await link.fetch("history_length")
    connected = await link.fetch("threads_connected")
    durable = int(flush) == 1 and str(doublewrite).upper() not in ("0", "OFF")
    return {
        "namespace": namespace,
        "server_version": server,
        "schema_version": version,
        "schema_newest": VERSION,
        "innodb_flush_log_at_trx_commit": int(flush),
        "innodb_doublewrite": str(doublewrite),
        "log_bin": str(log_bin),
        "sync_binlog": int(sync),
        "survives": "power loss" if durable else "process crash",
        "read_only": str(read_only) not in ("0", "OFF"),
        "max_allowed_packet": int(packet),
        "connections": int(connected[0][1]) if connected else None,
        "connections_max": int(most),
        "server_time_zone": zone,
        "size_bytes": int(size),
        "unpurged_transactions": int(history[0][1]) if history else None,
        "jobs": int(jobs),
        "aging_us": aging_us,
    }


async def problems(link: MySQLLink, namespace: str, collation: str) -> list[str]:
    """Everything that is wrong, at most PROBLEMS_MAX of it, each as a sentence; empty for a store that is whole."""
    found: list[str] = []
    async for problem in _problems(link, namespace, collation):
        found.append(problem)
        if len(found) == PROBLEMS_MAX:
            break
    return found


async def _problems(link: MySQLLink, namespace: str, collation: str) -> AsyncIterator[str]:
    missing = await _schema_problems(link, namespace, collation)
    for problem in missing:
        yield problem
    if missing:
        return
    turn = await begin(link, None, payload_bytes_max=0, url="")
    after = 0
    while True:
        records = await link.fetch("check_rows", after, PAGE)
        for record in records:
            for problem in problems_of(turn, record):
                yield problem
        if len(records) < PAGE:
            break
        after = records[-1][0]
    for id, claim, late in await link.fetch("check_claims"):
        if claim is None:
            yield f"job {id} runs under a claim that is not there"
        elif late:
            yield f"job {id} has a lease that ends before its claim {claim} is looked at"
        else:
            yield f"job {id} runs under claim {claim}, which does not name it"


async def _schema_problems(link: MySQLLink, namespace: str, collation: str) -> list[str]:
    scripts = "\n".join([script for _, _, script in migrations(namespace, collation)])
    indexes = {(table, name): columns for table, name, columns, _ in await link.fetch("check_indexes")}
    columns = {(table, name): text for table, name, text in await link.fetch("check_columns")}
    tables = {table for table, _ in columns}
    found: list[str] = []
    for table, body in _TABLE.findall(scripts):
        if table not in tables:
            found.append(f"the table {table} is missing; it was dropped by someone")
            continue
        found += [
            f"the column {name} of {table} is missing; it was dropped by someone"
            for name in _COLUMN.findall(body)
            if (table, name) not in columns
        ]
        found += _index_problems(table, body, indexes)
    found += [
        f"the column {name} of {table} is compared by {text}, not by {collation}: names would be mixed up"
        for (table, name), text in columns.items()
        if text and not text.startswith("ascii") and text != collation
    ]
    found += [
        f"the trigger {name} on {table} is not taskweave's; it runs inside every write"
        for name, table in await link.fetch("check_triggers")
    ]
    ((version,),) = await link.fetch("version_read") if not found else ((VERSION,),)
    if version != VERSION:
        found.append(f"the schema is version {version}, this taskweave knows {VERSION}")
    return found


def _index_problems(table: str, body: str, there: dict[tuple[str, str], str]) -> Iterator[str]:
    for _, name, wanted in _INDEX.findall(body):
        columns = there.get((table, name))
        if columns is None:
            yield f"the index {name} of {table} is missing; it was dropped by someone"
        elif columns != wanted:
            yield f"the index {name} of {table} is on ({columns}), not on ({wanted})"
