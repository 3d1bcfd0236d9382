"""What the doctor knows how to find: each check takes facts that were gathered before, and answers findings."""

from __future__ import annotations

import importlib.util
import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from attrs import frozen

from taskweave.cli.finding_values import Finding as Finding
from taskweave.cli.finding_values import Level
from taskweave.cli.output import span
from taskweave.cli.server_findings import clock_apart, server_findings
from taskweave.core.ids import MINUTE, SECOND, Micros
from taskweave.core.job import Job, State
from taskweave.core.verbs import Stats

WAITING_TOO_LONG_US: Final[Micros] = MINUTE
CLOCK_AHEAD_US: Final[Micros] = SECOND
DISK_FREE_MIN: Final = 100 << 20
DISK_FREE_LOW: Final = 0.05  # of the whole
WAL_LONG: Final = 256 << 20


@frozen
class Seen:
    """What there was to look at in a store that opened. `facts` are the store's own."""

    url: str
    facts: Mapping[str, Any]
    problems: Sequence[str]
    stats: Stats
    running: Sequence[Job]
    newest: Job | None
    wall: Micros


# --- the machine --------------------------------------------------------------------------------------------------


def machine() -> Iterator[Finding]:
    """What this installation is."""
    python = platform.python_version()
    yield Finding("python", "ok", f"taskweave {version('taskweave')}, Python {python}, {platform.system()}")
    wanted = {"trio": "trio", "uvloop": "fast", "prometheus_client": "metrics"}
    missing = [extra for module, extra in wanted.items() if importlib.util.find_spec(module) is None]
    if missing:
        extras = ",".join(missing)
        yield Finding("extras", "ok", f"not installed: {extras}", f"if wanted: pip install 'taskweave[{extras}]'")
    else:
        yield Finding("extras", "ok", "trio, uvloop and Prometheus metrics are installed")


# --- the store ----------------------------------------------------------------------------------------------------


def store_findings(seen: Seen) -> Iterator[Finding]:
    """Everything that can be said of a store that opened."""
    yield Finding("store", "ok", f"{seen.url} answers")
    yield from shape(seen)
    path = seen.facts.get("path")
    if path is not None:
        usage = shutil.disk_usage(Path(str(path)).parent)
        yield disk(usage.free, usage.total)
        yield clock(seen)
    else:
        yield from server_findings(seen.facts)
        yield clock_apart(seen.stats.now, seen.wall)
    yield from waiting(seen.stats)
    yield leases(seen)
    yield dead(seen.stats)


def shape(seen: Seen) -> Iterator[Finding]:
    """File, schema and indexes, durability, and the library underneath."""
    facts = seen.facts
    remedy = "run the statement of what was dropped again (taskweave store sql prints it); for damage restore a backup"
    for problem in seen.problems:
        yield Finding("schema", "problem", problem, remedy)
    if not seen.problems:
        yield Finding("schema", "ok", f"schema version {facts.get('schema_version')}, nothing missing or damaged")
    if "sqlite_version" in facts:
        yield Finding("durability", "ok", durability(str(facts["survives"])))
        yield sqlite_version(str(facts["sqlite_version"]), bug=bool(facts.get("wal_reset_bug")))
    yield from file(facts)


def durability(survives: str) -> str:
    """What an acknowledged job survives."""
    if survives == "power loss":
        return "what was acknowledged survives a power cut (synchronous=FULL)"
    return "what was acknowledged survives any crash of a process; a power cut may take the last moments"


def sqlite_version(library: str, *, bug: bool) -> Finding:
    """Before 3.51.3 a reset of the WAL can race with a checkpoint; taskweave's own checkpoints are serialised."""
    if not bug:
        return Finding("sqlite", "ok", f"SQLite {library}")
    return Finding(
        "sqlite",
        "warning",
        f"SQLite {library} has the WAL-reset bug (fixed in 3.51.3); taskweave serialises its own checkpoints",
        "let no other program write to the file or checkpoint it, or link a newer SQLite",
    )


def file(facts: Mapping[str, Any]) -> Iterator[Finding]:
    """Who else may reach the file, and whether its log is written back."""
    if int(str(facts.get("file_mode", "0600")), 8) & 0o077:
        text = f"others may open the file (mode {facts['file_mode']}): it holds every argument and result"
        yield Finding("file", "warning", text, f"chmod 600 {facts.get('path')}")
    if facts.get("folder_open_to_others"):
        yield Finding(
            "file", "warning", "others may replace the file: its folder is theirs too", "chmod go-w its folder"
        )
    wal_bytes = int(facts.get("wal_bytes", 0))
    if wal_bytes > WAL_LONG:
        why = facts.get("checkpoint_problem") or "some process reads for a long time"
        text = f"the log beside the file has {wal_bytes / 1e6:.0f} MB: {why}"
        yield Finding("file", "warning", text, "find the process that holds a read open (a backup, an sqlite3 shell)")


def disk(free: int, total: int) -> Finding:
    """How much room the folder of the store has."""
    text = f"{free / 1e9:.1f} GB free of {total / 1e9:.1f} GB"
    if free < DISK_FREE_MIN:
        return Finding("disk", "problem", text, "make room: a store on a full disk accepts nothing (TW1402)")
    level: Level = "warning" if free < DISK_FREE_LOW * total else "ok"
    return Finding("disk", level, text, "make room soon" if level == "warning" else "")


def clock(seen: Seen) -> Finding:
    """Store time never runs back: where it is ahead of this clock, it stands still until the clock has caught up."""
    ahead = max(seen.stats.now, seen.newest.created_at if seen.newest is not None else 0) - seen.wall
    if ahead <= CLOCK_AHEAD_US:
        return Finding("clock", "ok", "this machine's clock is not behind the store's time")
    text = f"this machine's clock is {span(ahead)} behind the store's time: leases and delays stand still until then"
    return Finding("clock", "problem", text, "set the clock (NTP); a machine whose clock was ahead wrote to the store")


def waiting(stats: Stats) -> Iterator[Finding]:
    """Queues that nobody takes from."""
    quiet = True
    for queue in stats.queues:
        ready, running = queue.count(State.READY), queue.count(State.RUNNING)
        name = f"queue {queue.queue!r}"
        if queue.paused:
            quiet = False
            text = f"{name} is paused, {ready} ready jobs wait"
            yield Finding("queues", "warning", text, f"taskweave queue resume {queue.queue}")
        elif ready and not running and (queue.oldest_ready_us or 0) > WAITING_TOO_LONG_US:
            quiet = False
            text = f"{name} has no workers: {ready} jobs are ready, the oldest since {span(queue.oldest_ready_us or 0)}"
            yield Finding("queues", "problem", text, f"taskweave worker APP --queues {queue.queue}")
    if quiet:
        yield Finding("queues", "ok", f"{len(stats.queues)} queues, nothing has waited for a worker for long")


def leases(seen: Seen) -> Finding:
    """Running jobs whose lease is over are given to others by any worker's maintenance: these were not."""
    stuck = [
        job for job in seen.running if job.life.hold is not None and job.life.hold.lease_until + MINUTE < seen.stats.now
    ]
    if not stuck:
        return Finding("leases", "ok", f"{len(seen.running)} running jobs, none with a lease that is long over")
    text = f"{len(stuck)} running jobs have a lease that is long over, e.g. {stuck[0].id}: no worker does maintenance"
    return Finding("leases", "problem", text, "start a worker on this store; it takes them over within a second")


def dead(stats: Stats) -> Finding:
    """How many dead letters there are."""
    failed = sum(queue.count(State.FAILED, State.LOST) for queue in stats.queues)
    if not failed:
        return Finding("dead letters", "ok", "none")
    return Finding("dead letters", "warning", f"{failed} jobs failed for good", "taskweave dlq list")
