"""What the engine may ask of the world, in the imperative; the driver performs them in the order given."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

from taskweave.core.ids import Fence, JobId, Micros
from taskweave.core.values import frozen
from taskweave.core.verbs import Claimed, Exchange, Lease, Settlement


class Why(StrEnum):
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    LEASE_LOST = "lease_lost"
    DRAIN = "drain"


@frozen
class SendExchange:
    """Send it; answer with ExchangeAnswered or ExchangeFailed. Never more than one is under way."""

    request: Exchange


@frozen
class Run:
    """Start these; each is answered by one RunEnded. Their leases count from `sent_at`, a monotonic instant."""

    jobs: tuple[Claimed, ...]
    sent_at: Micros


@frozen
class CancelRun:
    id: JobId
    fence: Fence
    why: Why


@frozen
class Announce:
    """These settlements are durable now: metrics, logs and waiters may know. The refused ones changed nothing."""

    settled: tuple[Settlement, ...]
    refused: tuple[Lease, ...] = ()


@frozen
class Abandon:
    """This run ignores its cancellation: its outcome is decided without it, its slot stays taken until it ends."""

    id: JobId
    fence: Fence


@frozen
class CheckIdle:
    """Ask whether jobs of these queues run anywhere, under leases that may yet run out; answer with IdleChecked."""

    queues: tuple[str, ...]


@frozen
class Stop:
    """Nothing is left to do; the driver ends. `problem` is set when a store error that cannot pass ended it."""

    problem: str | None = None


Effect: TypeAlias = SendExchange | Run | CancelRun | Announce | Abandon | CheckIdle | Stop
