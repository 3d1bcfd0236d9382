"""What the pure machines cost, without a loop, a clock or a file: `python benches/bench_core.py`.

CPU time, microseconds for each job; the median of the rounds with the fastest and the slowest.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from itertools import count

from taskweave.core.engine import Engine, Settings
from taskweave.core.events import Ended, Ending, ExchangeAnswered, RunEnded, Ticked
from taskweave.core.ids import MINUTE, uuid7
from taskweave.core.job import Failure, Spec, Verb
from taskweave.core.lease import LeaseBook
from taskweave.core.queue import Queue
from taskweave.core.retry import Retry, next_delay
from taskweave.core.verbs import Claimed, Enqueue, Exchange, Exchanged, Lease, Settlement

JOBS = 20_000
NOW = 1_800_000_000_000_000


def specs() -> list[Spec]:
    return [Spec(f"01a20220-edd1-7f6d-8000-{n:012x}", "noop", "default", b"[[1],{}]") for n in range(JOBS)]


def enqueue() -> Callable[[], None]:
    queue, batch = Queue(), specs()

    def run() -> None:
        for at in range(0, JOBS, 1_000):
            queue.apply(Enqueue(tuple(batch[at : at + 1_000])), NOW)

    return run


def exchange() -> Callable[[], None]:
    queue = Queue()
    batch = specs()
    for at in range(0, JOBS, 1_000):
        queue.apply(Enqueue(tuple(batch[at : at + 1_000])), NOW)

    def run() -> None:
        settle: tuple[Settlement, ...] = ()
        for number in count():
            request = Exchange("m", f"c{number}", 50, ("default",), ("noop",), MINUTE, settle)
            answer = queue.apply(request, NOW + number)
            if not answer.claimed:
                return
            settle = tuple(Settlement(job.id, job.fence, Verb.SUCCEED, b"null") for job in answer.claimed)

    return run


def engine() -> Callable[[], None]:
    """Everything that the engine does for a job: claimed, started, ended, settled, announced."""
    jobs = [Claimed(spec, 1, 1, 0, 0, 0) for spec in specs()]
    numbers = count()
    machine = Engine(Settings("m"), {"noop": None}, lambda: f"c{next(numbers)}")
    machine.handle(Ticked(), 0)

    def run() -> None:
        for at in range(0, JOBS, 50):
            batch = tuple(jobs[at : at + 50])
            assert machine.sent is not None
            machine.handle(ExchangeAnswered(machine.sent.claim_id, Exchanged(at, (), batch)), at)
            runs = tuple(RunEnded(job.id, job.fence, Ending.RETURNED, b"null") for job in batch)
            machine.handle(Ended(runs), at)

    return run


def leases() -> Callable[[], None]:
    book = LeaseBook()
    held = [Lease(spec.id, 1) for spec in specs()]

    def run() -> None:
        for at in range(0, JOBS, 50):
            for lease in held[at : at + 50]:
                book.add(lease, at)
            for lease in held[at : at + 50]:
                book.drop(lease)

    return run


def retry() -> Callable[[], None]:
    policy = Retry(5)
    failure = Failure("OSError", "no", kinds=("builtins.OSError", "builtins.Exception"))

    def run() -> None:
        for _ in range(JOBS):
            next_delay(policy, failure, 2, 0, 0.5, 5)

    return run


def ids() -> Callable[[], None]:
    def run() -> None:
        for n in range(JOBS):
            uuid7(NOW + n, n)

    return run


def main(rounds: int = 5) -> None:
    print("| machine | µs for each job (fastest–slowest) |\n|---|---:|")
    for make in (enqueue, exchange, engine, leases, retry, ids):
        took: list[float] = []
        for _ in range(rounds):
            run = make()
            began = time.process_time()
            run()
            took.append((time.process_time() - began) / JOBS * 1e6)
        print(f"| {make.__name__} | {statistics.median(took):.2f} ({min(took):.2f}–{max(took):.2f}) |")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
