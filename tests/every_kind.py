"""A store with a job of every kind, for tests of what carries jobs; made by the verbs alone, as clients make them."""

from __future__ import annotations

from typing import Any

from taskweave.abc import TaskStore
from taskweave.core.ids import HOUR, SECOND
from taskweave.core.job import Failure, Progress, Spec, Verb
from taskweave.core.unique import UniqueKey
from taskweave.core.verbs import (
    CancelJobs,
    Enqueue,
    Exchange,
    Lease,
    LeaseProgress,
    Maintain,
    PauseQueue,
    Renew,
    RetryJobs,
    Settlement,
)

FAILURE = Failure("ValueError", "bad \ud800\x00 text", "trace", ("ValueError", "Exception"))
LEASE_US = 30 * SECOND
KINDS: dict[str, dict[str, Any]] = {
    "ready": {"tags": (("a", "1"), ("b", "é")), "trace": "00-abc"},
    "binary": {"payload": b"\xff\x00", "codec": "raw", "version": 3},
    "later": {"delay_us": HOUR, "priority": -3},
    "dated": {"at": 4_000_000_000 * SECOND},
    "first": {"priority": 7, "timeout_us": 5 * SECOND},
    "unique": {"unique": UniqueKey("k")},
    "window": {"unique": UniqueKey("w", None, HOUR, "replace")},
    "once": {"at_most_once": True},
    "expiring": {"expires_in_us": HOUR},
    "expired": {"expires_in_us": 1},
    "good": {},
    "bad": {},
    "again": {"max_attempts": 3},
    "given": {"max_attempts": 2},
    "revived": {},
    "stopped": {},
}
CLAIMED = ("good", "bad", "again", "given", "revived", "stopped")


def spec(name: str, prefix: str = "", **rest: Any) -> Spec:
    given = {"payload": b'[["%s"],{}]' % name.encode(), "task": "t"} | KINDS.get(name, {}) | rest
    return Spec(prefix + name, queue=given.pop("queue", "q"), **given)


async def fill(store: TaskStore, prefix: str = "", *, pause: bool = True) -> None:
    """One job of each kind, none of them running; keys are the prefix's own."""
    for name in KINDS:
        unique = KINDS[name].get("unique")
        rest = {} if unique is None else {"unique": UniqueKey(prefix + unique.key, unique.until, unique.within_us)}
        queue = "work" if name in CLAIMED else "q"
        await store.apply(Enqueue((spec(name, prefix, queue=prefix + queue, **rest),)))
    leases = await claim(store, len(CLAIMED), prefix + "work", prefix)
    ends = {
        "good": Settlement(prefix + "good", 1, Verb.SUCCEED, b'{"a": 1}'),
        "bad": Settlement(prefix + "bad", 1, Verb.FAIL, error=FAILURE, cause="abort", reason="why"),
        "again": Settlement(prefix + "again", 1, Verb.RETRY, delay_us=HOUR, error=FAILURE),
        "given": Settlement(prefix + "given", 1, Verb.RELEASE, delay_us=HOUR),
        "revived": Settlement(prefix + "revived", 1, Verb.FAIL, error=FAILURE),
        "stopped": Settlement(prefix + "stopped", 1, Verb.CANCEL, reason="enough"),
    }
    assert {lease.id for lease in leases} == {prefix + name for name in ends}
    await store.apply(Exchange("m", f"{prefix}settle", 0, (), (), LEASE_US, tuple(ends.values())))
    await store.apply(RetryJobs((prefix + "revived",)))
    await store.apply(CancelJobs((prefix + "dated",), "not any more"))
    await store.apply(Maintain(LEASE_US))
    if pause:
        await store.apply(PauseQueue(prefix + "paused"))


async def claim(store: TaskStore, want: int, queue: str, prefix: str = "") -> list[Lease]:
    """Start so many jobs of the queue, and report how far they are."""
    answer = await store.apply(Exchange("m", f"{prefix}claim-{queue}", want, (queue,), ("t",), LEASE_US))
    leases = [Lease(each.id, each.fence) for each in answer.claimed]
    progress = tuple([LeaseProgress(lease.id, lease.fence, Progress(0.5, 1, "half")) for lease in leases[:1]])
    await store.apply(Renew("m", tuple(leases), LEASE_US, progress))
    return leases
