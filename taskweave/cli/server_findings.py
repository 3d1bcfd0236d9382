"""What the doctor finds about a store's server: from the facts that the store gathered, whatever kind it is.

A fact that is not there is not judged: a hosted server may keep its settings to itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias

from taskweave.cli.finding_values import Finding, Level
from taskweave.cli.output import span
from taskweave.core.ids import SECOND, Micros

Facts: TypeAlias = Mapping[str, Any]

CLOCK_APART_US: Final[Micros] = SECOND
USED_MUCH: Final = 0.8  # of connections or memory
USED_TOO_MUCH: Final = 0.95
UNPURGED_MANY: Final = 1_000_000  # transactions
DEAD_ROWS_MANY: Final = 50_000  # and more than there are jobs

_OFF: Final = ("0", "no", "off", "OFF")


def server_findings(facts: Facts) -> Iterator[Finding]:
    """Everything that can be said of the server; nothing where there is none."""
    for marker, look in _KINDS.items():
        if marker in facts:
            yield from look(facts)


def clock_apart(now: Micros, wall: Micros) -> Finding:
    """A server's clock is the store's: another clock here shows, and asks for, other times."""
    apart = abs(now - wall)
    if apart <= CLOCK_APART_US:
        return Finding("clock", "ok", "this machine's clock agrees with the server's")
    text = f"this machine's clock is {span(apart)} {'behind' if now > wall else 'ahead of'} the server's"
    return Finding("clock", "warning", f"{text}: jobs for a given instant start at the server's", "set both by NTP")


# --- PostgreSQL ---------------------------------------------------------------------------------------------------


def _postgres(facts: Facts) -> Iterator[Finding]:
    yield Finding("server", "ok", f"PostgreSQL {facts.get('server_version')}")
    if facts.get("standby"):
        yield Finding("server", "problem", "it is a standby: it takes no writes", "use the address of the primary")
    yield _postgres_durability(facts)
    yield from _share("connections", facts.get("connections"), facts.get("connections_max"), "raise max_connections")
    dead, jobs = facts.get("dead_rows", 0), facts.get("jobs", 0)
    if dead > max(DEAD_ROWS_MANY, jobs):
        text = f"{dead:,} dead rows beside {jobs:,} jobs: autovacuum does not keep up, and claims grow slow"
        yield Finding("vacuum", "warning", text, "end old open transactions, then VACUUM the table job")


def _postgres_durability(facts: Facts) -> Finding:
    if facts.get("fsync") == "off" or facts.get("full_page_writes") == "off":
        name = "fsync" if facts.get("fsync") == "off" else "full_page_writes"
        text = f"{name} is off: a power cut may destroy the whole database, not only the last jobs"
        return Finding("durability", "problem", text, f"set {name} = on in postgresql.conf, and reload it")
    if facts.get("synchronous_commit") == "off":
        text = "synchronous_commit is off: a crash of the server takes what was acknowledged last"
        return Finding("durability", "warning", text, "set synchronous_commit = on in postgresql.conf, and reload it")
    text = f"what was acknowledged survives a power cut (synchronous_commit={facts.get('synchronous_commit')})"
    return Finding("durability", "ok", text)


# --- MySQL and MariaDB --------------------------------------------------------------------------------------------


def _mysql(facts: Facts) -> Iterator[Finding]:
    yield Finding("server", "ok", str(facts.get("server_version")))
    if facts.get("read_only"):
        yield Finding("server", "problem", "it is read only: a replica takes no writes", "use the primary's address")
    yield _mysql_durability(facts)
    yield from _share("connections", facts.get("connections"), facts.get("connections_max"), "raise max_connections")
    unpurged = facts.get("unpurged_transactions") or 0
    if unpurged > UNPURGED_MANY:
        text = f"{unpurged:,} transactions are not purged: some old one is open, and claims grow slow"
        yield Finding("purge", "warning", text, "end old open transactions (information_schema.innodb_trx names them)")


def _mysql_durability(facts: Facts) -> Finding:
    flush = str(facts["innodb_flush_log_at_trx_commit"])
    if flush not in ("1", "3"):
        text = f"innodb_flush_log_at_trx_commit is {flush}: a power cut takes the last second of what was promised"
        return Finding("durability", "warning", text, "SET GLOBAL innodb_flush_log_at_trx_commit = 1")
    if str(facts.get("innodb_doublewrite", "1")) in _OFF:
        text = "innodb_doublewrite is off: a power cut may destroy pages of the tables"
        return Finding("durability", "problem", text, "set innodb_doublewrite = 1 and restart the server")
    if str(facts.get("log_bin", "0")) not in _OFF and str(facts.get("sync_binlog", "1")) != "1":
        text = "sync_binlog is not 1: after a power cut replicas may lack what this server has"
        return Finding("durability", "warning", text, "SET GLOBAL sync_binlog = 1")
    return Finding("durability", "ok", "what was acknowledged survives a power cut (innodb_flush_log_at_trx_commit=1)")


# --- Redis and Valkey ---------------------------------------------------------------------------------------------


def _redis(facts: Facts) -> Iterator[Finding]:
    yield Finding("server", "ok", f"{str(facts.get('server')).capitalize()} {facts.get('version')}")
    if facts.get("role") in ("slave", "replica"):
        yield Finding("server", "problem", "it is a replica: it takes no writes", "use the address of the primary")
    yield _redis_durability(facts)
    policy = facts.get("maxmemory_policy")
    if policy not in ("noeviction", "unknown", None):
        text = f"maxmemory-policy is {policy}: a server short of memory throws jobs away"
        yield Finding("memory", "problem", text, "CONFIG SET maxmemory-policy noeviction")
    yield from _share("memory", facts.get("memory_used_bytes"), facts.get("memory_max_bytes"), "raise maxmemory")


def _redis_durability(facts: Facts) -> Finding:
    appendonly, appendfsync = facts["appendonly"], facts.get("appendfsync", "unknown")
    if appendonly == "no":
        snapshots = facts.get("snapshots", "unknown")
        last = "all jobs" if not snapshots else "every job since the last snapshot"
        level: Level = "warning" if snapshots else "problem"
        text = f"appendonly is no: a crash of the server takes {last}"
        return Finding("durability", level, text, "CONFIG SET appendonly yes, and in its configuration file")
    if appendonly == "unknown" or appendfsync == "unknown":
        text = "the server does not say what survives its crash"
        return Finding("durability", "warning", text, "ask whoever runs it for appendonly and appendfsync")
    if appendfsync == "always":
        return Finding("durability", "ok", "what was acknowledged survives a power cut (appendfsync=always)")
    if appendfsync == "everysec":
        text = "a crash of the server's machine takes about the last second of what was acknowledged"
        return Finding("durability", "ok", f"{text} (appendfsync=everysec)", "if that is too much: appendfsync always")
    text = f"appendfsync is {appendfsync}: a power cut takes what the system had not written yet, often half a minute"
    return Finding("durability", "warning", text, "CONFIG SET appendfsync everysec, or always")


def _share(check: str, used: int | None, most: int | None, remedy: str) -> Iterator[Finding]:
    """How much of something that ends is used."""
    if not used or not most:
        return
    share = used / most
    level: Level = "ok" if share < USED_MUCH else "warning" if share < USED_TOO_MUCH else "problem"
    text = f"{share:.0%} of the server's {check} {'is' if check == 'memory' else 'are'} used ({used:,} of {most:,})"
    yield Finding(check, level, text, remedy if level != "ok" else "")


_KINDS: Final[dict[str, Callable[[Facts], Iterator[Finding]]]] = {
    "synchronous_commit": _postgres,
    "innodb_flush_log_at_trx_commit": _mysql,
    "appendonly": _redis,
}
