"""What a store can say of itself: facts for `taskweave doctor`, and what is wrong with it for `store check`.

The check looks at the schema (every table, index, function and view that the migrations make, and nothing unlogged) and
at the rows (invariant I26: each job has exactly the columns that its state calls for, and every derived column is what
the core derives). It reads everything, so it takes as long as the store is large; it holds one page of rows at a time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

from taskweave.stores._postgres.driver import Connection
from taskweave.stores._postgres.link import PostgresLink
from taskweave.stores._postgres.statements import VERSION, statements
from taskweave.stores._server.inspect import PROBLEMS_MAX, problems_of
from taskweave.stores._server.turn import begin

PAGE: Final = 1_000
TABLES: Final = ("meta", "claim", "pause", "job")
INDEXES: Final = (
    *("meta_pkey", "claim_pkey", "claim_id", "claim_until", "pause_pkey", "job_pkey", "job_id", "job_ready"),
    *("job_aside", "job_due", "job_lease", "job_cancel", "job_unique", "job_expiry", "job_chore", "job_end"),
    "job_bad_end",
)
OTHERS: Final = ("whole_job", "enqueue", "exchange")


async def facts(connection: Connection, namespace: str) -> dict[str, Any]:
    """What is worth knowing about this server and this schema; sizes in bytes."""
    named = statements(namespace)
    found = await connection.fetch(named["facts"], namespace)
    ((server, synchronous, fsync, full_pages, recovering, size, dead, jobs, encoding, connections, most),) = found
    ((version, aging_us),) = await connection.fetch(named["meta_settings"])
    durable = synchronous != "off" and fsync == "on"
    return {
        "namespace": namespace,
        "server_version": server,
        "schema_version": version,
        "schema_newest": VERSION,
        "synchronous_commit": synchronous,
        "fsync": fsync,
        "full_page_writes": full_pages,
        "survives": "power loss" if durable and full_pages == "on" else "process crash",
        "encoding": encoding,
        "standby": recovering,
        "connections": connections,
        "connections_max": most,
        "size_bytes": size,
        "dead_rows": dead,
        "jobs": jobs,
        "aging_us": aging_us,
    }


async def problems(connection: Connection, namespace: str) -> list[str]:
    """Everything that is wrong, at most PROBLEMS_MAX of it, each as a sentence; empty for a store that is whole."""
    found: list[str] = []
    async for problem in _problems(connection, namespace):
        found.append(problem)
        if len(found) == PROBLEMS_MAX:
            break
    return found


async def _problems(connection: Connection, namespace: str) -> AsyncIterator[str]:
    missing = await _schema_problems(connection, namespace)
    for problem in missing:
        yield problem
    if missing:
        return
    turn = await begin(PostgresLink(connection, statements(namespace)), None, payload_bytes_max=0, url="")
    sql, after = statements(namespace)["check_rows"], 0
    while True:
        records = await connection.fetch(sql, after, PAGE)
        for record in records:
            for problem in problems_of(turn, tuple(record)):
                yield problem
        if len(records) < PAGE:
            break
        after = records[-1][0]
    for key, id in await connection.fetch(statements(namespace)["check_claims"]):
        yield f"job {id} runs under claim {key}, which is not there"


async def _schema_problems(connection: Connection, namespace: str) -> list[str]:
    named = statements(namespace)
    there = {(kind, name): state for kind, name, state in await connection.fetch(named["check_schema"], namespace)}
    found: list[str] = []
    for kind, names in (("table", TABLES), ("index", INDEXES), ("view or function", OTHERS)):
        for name in names:
            state = there.get((kind, name), "missing")
            if state == "missing":
                found.append(f"the {kind} {name} is missing; it was dropped by someone")
            elif state != "sound":
                found.append(f"the {kind} {name} is {state}")
    found += [
        f"the trigger {name} is not taskweave's; it runs inside every write"
        for kind, name in there
        if kind == "trigger"
    ]
    ((version, _),) = await connection.fetch(named["meta_settings"]) if not found else ((VERSION, None),)
    if version != VERSION:
        found.append(f"the schema is version {version}, this taskweave knows {VERSION}")
    return found
