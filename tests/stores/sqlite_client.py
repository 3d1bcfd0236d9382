"""What the SQLite tests run in processes of their own: `sqlite_client.py VERB PATH ...`; a line for each step."""

from __future__ import annotations

import sys
import time

import anyio

from taskweave._runtime.env import SystemEnv
from taskweave.core.job import Spec, Verb
from taskweave.core.verbs import Enqueue, Exchange, Settlement
from taskweave.stores.sqlite import SQLiteTaskStore

LEASE_US = 30_000_000


async def produce(path: str, count: int) -> None:
    """Enqueue one by one for ever (count 0) or so many; each acknowledged id is printed after its answer."""
    env = SystemEnv()
    async with SQLiteTaskStore(path) as store:
        done = 0
        while not count or done < count:
            spec = Spec(env.new_id(), "noop", "default", b"[]")
            await store.apply(Enqueue((spec,)))
            print(spec.id, flush=True)
            done += 1


async def work(path: str, member: str, until: int) -> None:
    """Claim and settle until so many jobs are done in all; each settled id is printed after its answer."""
    env = SystemEnv()
    async with SQLiteTaskStore(path) as store:
        ended: tuple[Settlement, ...] = ()
        idle = 0
        while idle < until:
            request = Exchange(member, env.new_id(), 7, ("default",), ("noop",), LEASE_US, ended)
            answer = await store.apply(request)
            for settlement in ended:
                print(settlement.id, flush=True)
            ended = tuple([Settlement(job.id, job.fence, Verb.SUCCEED, b"1") for job in answer.claimed])
            idle = 0 if ended else idle + 1


async def signal(path: str, count: int) -> None:
    """Enqueue a job for each line read, and print when it was committed, by the clock that processes share."""
    env = SystemEnv()
    async with SQLiteTaskStore(path) as store:
        print("ready", flush=True)
        for _ in range(count):
            await anyio.to_thread.run_sync(sys.stdin.readline)
            await store.apply(Enqueue((Spec(env.new_id(), "noop", "default", b"[]"),)))
            print(time.monotonic_ns(), flush=True)


if __name__ == "__main__":
    verb, path, *rest = sys.argv[1:]
    if verb == "produce":
        anyio.run(produce, path, int(rest[0]))
    elif verb == "work":
        anyio.run(work, path, rest[0], int(rest[1]))
    else:
        anyio.run(signal, path, int(rest[0]))
