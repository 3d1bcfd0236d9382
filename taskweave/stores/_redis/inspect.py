"""What a server says of itself, and what of that matters to jobs: facts for `taskweave doctor`.

What an answered op survives is the server's setting, not the store's: it is told in four words, from the weakest. A
server whose CONFIG is out of reach (many hosted ones) leaves some facts "unknown".
"""

from __future__ import annotations

from typing import Any, Final

from taskweave.exceptions import StoreError, StoreRefused
from taskweave.stores._redis.rows import text_of
from taskweave.stores._redis.verbs import Dataset

UNKNOWN: Final = "unknown"
_SETTINGS: Final = ("appendonly", "appendfsync", "save", "maxmemory-policy")


async def facts(dataset: Dataset) -> dict[str, Any]:
    """What is worth knowing about this server; sizes in bytes. Raises StoreError."""
    jobs, aging, version = await dataset.evaluate("facts", [])
    info = await _info(dataset)
    settings = await _settings(dataset)
    appendonly = settings.get("appendonly") or {"0": "no", "1": "yes"}.get(info.get("aof_enabled", ""), UNKNOWN)
    policy = settings.get("maxmemory-policy") or info.get("maxmemory_policy", UNKNOWN)
    appendfsync = settings.get("appendfsync", UNKNOWN)
    return {
        "server": "valkey" if "valkey_version" in info else "redis" if "redis_version" in info else UNKNOWN,
        "version": info.get("valkey_version") or info.get("redis_version", UNKNOWN),
        "schema_version": int(version),
        "role": info.get("role", UNKNOWN),
        "cluster": dataset.link.address.cluster,
        "appendonly": appendonly,
        "appendfsync": appendfsync,
        "snapshots": settings.get("save", UNKNOWN),
        "maxmemory_policy": policy,
        "memory_used_bytes": _number(info, "used_memory"),
        "memory_max_bytes": _number(info, "maxmemory"),
        "survives": survives(appendonly, appendfsync, policy),
        "aging_us": None if aging is None else int(aging),
        "jobs": jobs,
    }


def survives(appendonly: str, appendfsync: str, policy: str) -> str:
    """What a job that was answered for survives, on a server set up like this."""
    if policy not in ("noeviction", UNKNOWN):
        return "nothing"  # any row may be evicted at any time
    if appendonly == "no":
        return "process crash of the client only"
    if UNKNOWN in (appendonly, appendfsync, policy):
        return UNKNOWN
    return {"always": "power loss", "everysec": "loses about the last second"}.get(
        appendfsync, "process crash of the client only"
    )


async def _info(dataset: Dataset) -> dict[str, str]:
    try:
        answer = await dataset.link.call("INFO")
    except StoreRefused:
        return {}
    lines = [line.partition(":") for line in text_of(answer).splitlines() if not line.startswith("#")]
    return {name: value for name, found, value in lines if found}


async def _settings(dataset: Dataset) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in _SETTINGS:
        try:
            answer = await dataset.link.call("CONFIG", "GET", name)
        except StoreError as error:
            if error.transient:
                raise
            return found  # the user may not ask, or the server has no such command: the facts say "unknown"
        found |= {text_of(answer[at]): text_of(answer[at + 1]) for at in range(0, len(answer), 2)}
    return found


def _number(info: dict[str, str], name: str) -> int | None:
    return int(info[name]) if info.get(name, "").isdigit() else None
