"""The failing network itself: it cuts where it says, on each protocol, and what was committed is as it says.

Only drivers are used here. A fault test that stands on a proxy which does not cut proves nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from proxy import Proxy, Where, every, nth
from servers import Server

KINDS = ["postgres", "mysql", "redis"]


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest, shared_server: Callable[[str], Server]) -> Server:
    return shared_server(request.param)


class Client:
    """A counter on the server, raised in a transaction, through the driver as it is."""

    def __init__(self, server: Server, port: int) -> None:
        self.server, self.port, self.name = server, port, f"t{uuid4().hex[:12]}"
        self.connection: Any = None

    async def open(self) -> None:
        server = self.server
        if server.kind.scheme == "postgres":
            import asyncpg

            self.connection = await asyncpg.connect(
                host="127.0.0.1", port=self.port, user=server.user, password=server.password, database=server.database
            )
        elif server.kind.scheme == "mysql":
            import asyncmy

            self.connection = await asyncmy.connect(
                host="127.0.0.1", port=self.port, user=server.user, password=server.password, db=server.database
            )
        else:
            from redis.asyncio import Redis
            from redis.asyncio.retry import Retry
            from redis.backoff import NoBackoff

            self.connection = Redis(
                host="127.0.0.1",
                port=self.port,
                username=server.user,
                password=server.password,
                retry=Retry(NoBackoff(), 0),
                single_connection_client=True,
            )
            await self.connection.ping()

    async def run(self, *statements: str) -> None:
        if self.server.kind.scheme == "postgres":
            for each in statements:
                await self.connection.execute(each)
        elif self.server.kind.scheme == "mysql":
            async with self.connection.cursor() as cursor:
                for each in statements:
                    await cursor.execute(each)
                    if cursor.description:
                        await cursor.fetchall()
        else:
            for each in statements:
                await self.connection.execute_command(*each.split())

    def steps(self) -> list[str]:
        """What raises the counter; the last one commits."""
        if self.server.kind.scheme == "redis":
            return [f"EXISTS {self.name}", f"INCR {self.name}"]
        return ["BEGIN", "SELECT 1 AS one, 2 AS two", f"INSERT INTO {self.name} VALUES (1)", "COMMIT"]

    def prepare(self) -> None:
        if self.server.kind.scheme != "redis":
            self.server.admin(f"CREATE TABLE {self.name} (n int)")

    def count(self) -> int:
        if self.server.kind.scheme == "redis":
            return int(self.server.admin(f"GET {self.name}")[0] or 0)
        return int(self.server.admin(f"SELECT count(*) FROM {self.name}")[0][0])

    async def close(self) -> None:
        if self.server.kind.scheme == "postgres":
            self.connection.terminate()
        elif self.server.kind.scheme == "mysql":
            self.connection.close()
        else:
            await self.connection.aclose()


@asynccontextmanager
async def client(server: Server, port: int) -> AsyncIterator[Client]:
    one = Client(server, port)
    one.prepare()
    await one.open()
    try:
        yield one
    finally:
        await one.close()


@pytest.mark.parametrize("rst", [True, False])
@pytest.mark.parametrize(("where", "committed"), [("before", 0), ("after", 1), ("mid", 1)])
def test_the_last_request_is_cut_where_it_is_told_to(server: Server, where: Where, committed: int, rst: bool) -> None:
    async def run() -> None:
        async with client(server, proxy.port) as one:
            proxy.plan = nth(len(one.steps()), where, rst=rst)
            with pytest.raises(Exception):  # noqa: B017, PT011 - each driver has its own
                await asyncio.wait_for(one.run(*one.steps()), 20)
            assert proxy.injected == {where: 1}
            assert one.count() == committed

    with Proxy(server) as proxy:
        asyncio.run(run())


@pytest.mark.parametrize(("where", "committed"), [("silence", 0), ("deaf", 1)])
def test_silence_keeps_the_connection_and_says_nothing(server: Server, where: Where, committed: int) -> None:
    async def run() -> None:
        async with client(server, proxy.port) as one:
            proxy.plan = nth(len(one.steps()), where)
            task = asyncio.ensure_future(one.run(*one.steps()))
            async with asyncio.timeout(20):
                while not proxy.injected or one.count() != committed:
                    await asyncio.sleep(0.01)
            done, _ = await asyncio.wait([task], timeout=0.2)
            assert not done
            task.cancel()
            await asyncio.wait([task], timeout=5)
            assert one.count() == committed

    with Proxy(server) as proxy:
        asyncio.run(run())


def test_what_no_plan_asks_for_passes_unharmed_and_is_counted(server: Server) -> None:
    async def run() -> None:
        async with client(server, proxy.port) as one:
            before = proxy.requests
            for _ in range(3):
                await one.run(*one.steps())
            assert proxy.requests - before == 3 * len(one.steps())
            assert one.count() == 3

    with Proxy(server) as proxy:
        proxy.plan = nth(1, "before", saying=b"no such words")
        asyncio.run(run())
        assert not proxy.injected


def test_every_nth_that_says_so(server: Server) -> None:
    async def run() -> None:
        async with client(server, proxy.port) as one:
            proxy.plan = every(3, "delay", saying=one.steps()[-1].split()[0].encode())
            for _ in range(7):
                await one.run(*one.steps())

    with Proxy(server) as proxy:
        asyncio.run(run())
        assert proxy.injected == {"delay": 2}


def test_connections_can_be_cut_and_refused(server: Server) -> None:
    async def run() -> None:
        async with client(server, proxy.port) as one:
            assert proxy.cut() == 1
            with pytest.raises(Exception):  # noqa: B017, PT011
                await asyncio.wait_for(one.run(*one.steps()), 20)
            proxy.refusing = True
            with pytest.raises(Exception):  # noqa: B017, PT011
                await asyncio.wait_for(Client(server, proxy.port).open(), 20)
            proxy.refusing = False
            again = Client(server, proxy.port)
            await again.open()
            await again.close()

    with Proxy(server) as proxy:
        asyncio.run(run())


def test_large_answers_pass_whole(server: Server) -> None:
    """Answers and requests of many reads, whose ends lie inside one."""

    async def run() -> None:
        async with client(server, proxy.port) as one:
            if server.kind.scheme == "redis":
                await one.connection.set(one.name, b"x" * 3_000_000)
                assert len(await one.connection.getdel(one.name)) == 3_000_000
            elif server.kind.scheme == "postgres":
                assert len(await one.connection.fetchval("SELECT $1::text", "x" * 3_000_000)) == 3_000_000
            else:
                async with one.connection.cursor() as cursor:
                    await cursor.execute("SELECT %s, 2", ("x" * 3_000_000,))
                    assert len((await cursor.fetchone())[0]) == 3_000_000
            before = proxy.requests
            await one.run(*one.steps())
            assert proxy.requests - before == len(one.steps())

    with Proxy(server) as proxy:
        asyncio.run(run())
