"""The floor on servers: the least SQL or Lua that claims 100, keeps results, priority order and a fence.

One statement, script or transaction for completing and claiming, on the same driver as taskweave's store of that
server. See floors.py for what a floor is.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

CLAIM = 100
LEASE_US = 30_000_000
Jobs = list[tuple[int, str]]


class BarePostgres:
    """asyncpg: one statement with two updates, prepared once."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def open(self, path: Path) -> None:
        import asyncpg

        self.db: Any = await asyncpg.connect(self.url)
        await self.db.execute(
            "DROP TABLE IF EXISTS floor_job;"
            "CREATE TABLE floor_job(seq bigserial PRIMARY KEY, id text UNIQUE, queue text, task text, payload text,"
            " priority int, run_at timestamptz DEFAULT now(), state smallint DEFAULT 0, fence int DEFAULT 0,"
            " attempt int DEFAULT 0, lease_until timestamptz, result text) WITH (fillfactor=50);"
            "CREATE INDEX floor_ready ON floor_job(queue, priority DESC, run_at, seq) WHERE state=0;"
            "CREATE INDEX floor_lease ON floor_job(lease_until) WHERE state=1"
        )
        self.exchange_ = await self.db.prepare(
            "WITH ended AS (UPDATE floor_job j SET state=2, result=u.result, lease_until=NULL"
            " FROM unnest($1::bigint[], $2::text[]) u(seq, result) WHERE j.seq=u.seq AND j.state=1 AND j.fence=1"
            " RETURNING 1), started AS (UPDATE floor_job SET state=1, fence=fence+1, attempt=attempt+1,"
            " lease_until=now()+interval '30 s' WHERE seq = ANY(ARRAY(SELECT seq FROM floor_job WHERE queue='default'"
            " AND state=0 AND run_at<=now() ORDER BY priority DESC, run_at, seq LIMIT $3 FOR UPDATE SKIP LOCKED))"
            " RETURNING seq, payload) SELECT * FROM started"
        )

    async def close(self) -> None:
        await self.db.execute("DROP TABLE floor_job")
        await self.db.close()

    async def fill(self, jobs: int) -> None:
        records = [
            (f"01234567-89ab-7cde-8000-{n:012x}", "default", "noop", json.dumps([[n], {}]), 0) for n in range(jobs)
        ]
        columns = ["id", "queue", "task", "payload", "priority"]
        await self.db.copy_records_to_table("floor_job", records=records, columns=columns)

    async def exchange(self, ended: Jobs) -> Jobs:
        rows = await self.exchange_.fetch([seq for seq, _ in ended], [result for _, result in ended], CLAIM)
        return [(row[0], row[1]) for row in rows]


_LUA = """
local t = redis.call('TIME'); local now = t[1] * 1000000 + t[2]
local k = tonumber(ARGV[1]); local i = 3
for x = 1, k do local key = '{floor}:j:' .. ARGV[i]
  if redis.call('HGET', key, 'f') == '1' and redis.call('ZREM', KEYS[2], ARGV[i]) == 1 then
    redis.call('HSET', key, 's', 2, 'r', ARGV[i + 1]) end
  i = i + 2 end
local ids = redis.call('ZPOPMIN', KEYS[1], ARGV[2]); local out = {}
for x = 1, #ids, 2 do local key = '{floor}:j:' .. ids[x]
  redis.call('HINCRBY', key, 'f', 1); redis.call('ZADD', KEYS[2], now + 30000000, ids[x])
  out[#out + 1] = ids[x]; out[#out + 1] = redis.call('HGET', key, 'p') end
return out
"""


class BareRedis:
    """redis-py: one script."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def open(self, path: Path) -> None:
        import redis.asyncio

        self.db: Any = redis.asyncio.from_url(self.url, decode_responses=True)
        self.sha = await self.db.script_load(_LUA)

    async def close(self) -> None:
        keys = [key async for key in self.db.scan_iter("{floor}:*", count=10_000)]
        for at in range(0, len(keys), 10_000):
            await self.db.unlink(*keys[at : at + 10_000])
        await self.db.aclose()

    async def fill(self, jobs: int) -> None:
        for start in range(0, jobs, 500):
            pipe = self.db.pipeline(transaction=False)
            some = range(start, min(start + 500, jobs))
            for n in some:
                pipe.hset(f"{{floor}}:j:{n}", mapping={"t": "noop", "p": json.dumps([[n], {}]), "f": 0, "s": 0})
            pipe.zadd("{floor}:q", {str(n): n for n in some})
            await pipe.execute()

    async def exchange(self, ended: Jobs) -> Jobs:
        arguments: list[Any] = [len(ended), CLAIM]
        for seq, result in ended:
            arguments += (seq, result)
        found = await self.db.evalsha(self.sha, 2, "{floor}:q", "{floor}:run", *arguments)
        return [(int(found[at]), found[at + 1]) for at in range(0, len(found), 2)]


class BareMysql:
    """asyncmy: one transaction of an upsert, a locking select, an update."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def open(self, path: Path) -> None:
        import asyncmy

        parts = urlsplit(self.url)
        self.db: Any = await asyncmy.connect(
            host=parts.hostname,
            port=parts.port,
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            db=parts.path.strip("/"),
            autocommit=True,
            init_command="SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
        )
        await self._run("DROP TABLE IF EXISTS floor_job")
        await self._run(
            "CREATE TABLE floor_job(seq BIGINT AUTO_INCREMENT PRIMARY KEY, id VARCHAR(40) UNIQUE, queue VARCHAR(40),"
            " task VARCHAR(40), payload TEXT, rank_ INT, run_at BIGINT, state SMALLINT, fence INT, attempt INT,"
            " lease_until BIGINT, result TEXT, KEY ready (state, queue, rank_, run_at, seq), KEY lease (lease_until))"
        )

    async def close(self) -> None:
        await self._run("DROP TABLE floor_job")
        self.db.close()

    async def _run(self, sql: str, parameters: Any = None) -> Any:
        async with self.db.cursor() as cursor:
            await cursor.execute(sql, parameters)
            return await cursor.fetchall() if cursor.description else ()

    async def fill(self, jobs: int) -> None:
        async with self.db.cursor() as cursor:
            for start in range(0, jobs, 1_000):
                records = [
                    (f"01234567-89ab-7cde-8000-{n:012x}", json.dumps([[n], {}]))
                    for n in range(start, min(start + 1_000, jobs))
                ]
                await cursor.executemany(
                    "INSERT INTO floor_job(id, queue, task, payload, rank_, run_at, state, fence, attempt)"
                    " VALUES (%s, 'default', 'noop', %s, 0, 0, 0, 0, 0)",
                    records,
                )

    async def exchange(self, ended: Jobs) -> Jobs:
        await self._run("BEGIN")
        if ended:
            async with self.db.cursor() as cursor:
                await cursor.executemany(
                    "INSERT INTO floor_job(seq, result) VALUES (%s, %s) ON DUPLICATE KEY UPDATE"
                    " result=IF(state=1 AND fence=1, VALUES(result), result), lease_until=NULL,"
                    " state=IF(state=1 AND fence=1, 2, state)",
                    ended,
                )
        found = await self._run(
            "SELECT seq, payload FROM floor_job WHERE state=0 AND queue='default'"
            " ORDER BY rank_, run_at, seq LIMIT %s FOR UPDATE SKIP LOCKED",
            (CLAIM,),
        )
        if found:
            await self._run(
                "UPDATE floor_job SET state=1, fence=fence+1, attempt=attempt+1,"
                " lease_until=ROUND(UNIX_TIMESTAMP(NOW(6))*1000000)+30000000 WHERE seq IN %s",
                (tuple([seq for seq, _ in found]),),
            )
        await self._run("COMMIT")
        return [(seq, payload) for seq, payload in found]


BARE = {"postgres": BarePostgres, "postgresql": BarePostgres, "redis": BareRedis, "mysql": BareMysql}


def bare_of(url: str) -> BarePostgres | BareRedis | BareMysql:
    return BARE[urlsplit(url).scheme](url)
