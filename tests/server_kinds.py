"""How each kind of server is prepared, started, greeted and administered; `servers.py` knows their common life.

Passwords go into files that only the server's user reads, never onto a command line. PostgreSQL and PgBouncer refuse to
run as root and are run as `nobody` there.
"""

from __future__ import annotations

import importlib.util
import os
import signal
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from server_process import give_away, reachable, run
from server_programs import beside, program

if TYPE_CHECKING:
    from servers import Server


class Kind:
    """What servers of one kind have in common; the classes below say it."""

    name = scheme = environment = user = database = greeting = driver = ""
    port = 0
    needs: tuple[str, ...] = ()
    unprivileged = False
    stop_signal: int = signal.SIGTERM

    def prepare(self, server: Server) -> None:
        """Make its folder ready for its port; may be called again for another port."""

    def command(self, server: Server) -> list[str]:
        raise NotImplementedError

    async def connect(self, server: Server) -> Any:
        """A connection of the driver, logged in."""
        raise NotImplementedError

    async def leave(self, connection: Any) -> None:
        raise NotImplementedError

    async def run(self, connection: Any, statement: str) -> list[Any]:
        """The rows of a statement, or the answer to a command."""
        raise NotImplementedError

    async def admin(self, server: Server, statements: Sequence[str]) -> list[Any]:
        connection = await self.connect(server)
        try:
            rows: list[Any] = []
            for statement in statements:
                rows = await self.run(connection, statement)
            return rows
        finally:
            await self.leave(connection)

    def driver_missing(self) -> str | None:
        """None, or which extra brings the driver."""
        if importlib.util.find_spec(self.driver) is None:
            return f"no driver for {self.name}: `pip install {self.driver}`"
        return None

    def program(self, server: Server) -> str:
        found = program(self.name)
        assert found is not None
        return str(reachable(found, server.folder) if self.unprivileged else found)


def _secret(server: Server, name: str, text: str) -> str:
    """A file in the server's folder that its user alone can read."""
    path = server.folder / name
    path.touch(0o600)
    path.write_text(text)
    if server.kind.unprivileged:
        give_away(path)
    return str(path)


class Postgres(Kind):
    name, scheme, environment = "postgres", "postgres", "TASKWEAVE_TEST_POSTGRES_URL"
    user, database, port, driver, greeting = "taskweave", "taskweave", 5432, "asyncpg", "SELECT 1"
    unprivileged = True
    stop_signal = signal.SIGINT  # "fast": SIGTERM waits until every client has left
    SLOPPY = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")

    def prepare(self, server: Server) -> None:
        data = server.folder / "data"
        if data.exists():
            return
        main = program(self.name)
        assert main is not None
        initdb = beside(reachable(main, server.folder), "initdb")
        password = _secret(server, "password", server.password)
        options = ["-U", self.user, "-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"]
        run([str(initdb), "-D", str(data), *options, f"--pwfile={password}"], unprivileged=True, cwd=server.folder)

    def command(self, server: Server) -> list[str]:
        settings = {
            "listen_addresses": server.host,
            "port": server.port,
            "unix_socket_directories": "",
            "shared_buffers": "32MB",
            "max_connections": 100,
            "timezone": "Asia/Kolkata",  # half an hour off the hours: time must never depend on the server's zone
            **(dict(each.split("=") for each in self.SLOPPY) if not server.durable else {}),
            **server.settings,
        }
        given = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [self.program(server), "-D", str(server.folder / "data"), *given]

    async def connect(self, server: Server) -> Any:
        import asyncpg

        try:
            return await self._connect(server, server.database)
        except asyncpg.InvalidCatalogNameError:
            if not server.ours:
                raise
        first = await self._connect(server, "postgres")  # a new server has no database of ours yet
        try:
            await first.execute(f'CREATE DATABASE "{server.database}"')
        finally:
            await first.close()
        return await self._connect(server, server.database)

    async def _connect(self, server: Server, database: str) -> Any:
        import asyncpg

        address = {"host": server.host, "port": server.port, "user": server.user, "password": server.password}
        return await asyncpg.connect(**address, database=database, timeout=5, statement_cache_size=0)

    async def leave(self, connection: Any) -> None:
        await connection.close(timeout=5)

    async def run(self, connection: Any, statement: str) -> list[Any]:
        return [tuple(row) for row in await connection.fetch(statement)]


class PgBouncer(Postgres):
    name, scheme, environment = "pgbouncer", "postgres", "TASKWEAVE_TEST_PGBOUNCER_URL"
    database, port, driver, greeting = "taskweave", 6432, "asyncpg", "SELECT 1"
    needs = ("postgres",)
    unprivileged = True
    stop_signal = signal.SIGINT

    def prepare(self, server: Server) -> None:
        """In front of the shared PostgreSQL, with its user and password, one server connection per transaction."""
        import servers

        behind = servers.shared("postgres")
        server.user, server.password = behind.user, behind.password
        quoted = behind.password.replace('"', '""')
        users = _secret(server, "users", f'"{behind.user}" "{quoted}"\n')
        options = {
            "listen_addr": server.host,
            "listen_port": server.port,
            "unix_socket_dir": "",
            "auth_type": "scram-sha-256",
            "auth_file": users,
            "pool_mode": "transaction",
            "admin_users": behind.user,
            "ignore_startup_parameters": "extra_float_digits",
            "max_client_conn": 500,
            **server.settings,
        }
        lines = [f"{name} = {value}" for name, value in options.items()]
        target = f"* = host={behind.host} port={behind.port}"
        _secret(server, "pgbouncer.ini", "\n".join(["[databases]", target, "[pgbouncer]", *lines, ""]))

    def command(self, server: Server) -> list[str]:
        return [self.program(server), str(server.folder / "pgbouncer.ini")]

    async def connect(self, server: Server) -> Any:
        return await self._connect(server, server.database)


class MariaDB(Kind):
    name, scheme, environment = "mariadb", "mysql", "TASKWEAVE_TEST_MYSQL_URL"
    user, database, port, driver, greeting = "taskweave", "taskweave", 3306, "asyncmy", "SELECT 1"
    SLOPPY = ("innodb_flush_log_at_trx_commit=0", "innodb_doublewrite=0")
    SMALL = (
        "innodb_use_native_aio=0",  # the kernel has few of its queues, and a machine may run many test servers
        "innodb_log_file_size=32M",
        "innodb_buffer_pool_size=64M",
    )

    def prepare(self, server: Server) -> None:
        data, main = server.folder / "data", program(self.name)
        assert main is not None
        if not data.exists():
            user = [f"--user={_account()}"]
            options = ["--auth-root-authentication-method=normal", "--skip-test-db", f"--datadir={data}", *user]
            options.append(f"--tmpdir={server.folder}")  # two that start at once remove each other's files in /tmp
            quick = [f"--{each.replace('_', '-')}" for each in (*self.SMALL, *self.SLOPPY)]
            run([str(beside(main, "mariadb-install-db")), "--no-defaults", *options, *quick], cwd=server.folder)
        word = server.password.replace("\\", "\\\\").replace("'", "''")
        statements = [
            f"CREATE DATABASE IF NOT EXISTS `{self.database}` CHARACTER SET utf8mb4",
            f"CREATE USER IF NOT EXISTS '{self.user}'@'%' IDENTIFIED BY '{word}'",
            f"GRANT ALL ON *.* TO '{self.user}'@'%' WITH GRANT OPTION",
            f"ALTER USER 'root'@'localhost' IDENTIFIED BY '{word}'",
        ]
        _secret(server, "init.sql", "".join(f"{each};\n" for each in statements))

    def command(self, server: Server) -> list[str]:
        settings = {
            "datadir": server.folder / "data",
            "tmpdir": server.folder,
            "socket": server.folder / "socket",
            "pid-file": server.folder / "pid",
            "bind-address": server.host,
            "port": server.port,
            "user": _account(),
            "init-file": server.folder / "init.sql",
            **dict(each.split("=") for each in self.SMALL),
            "default-time-zone": "+05:30",  # as for PostgreSQL: time must not depend on the server's zone
            **(dict(each.split("=") for each in self.SLOPPY) if not server.durable else {}),
            **server.settings,
        }
        given = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
        return [self.program(server), "--no-defaults", "--skip-log-bin", *given]

    async def connect(self, server: Server) -> Any:
        import asyncmy

        return await asyncmy.connect(
            host=server.host,
            port=server.port,
            user=server.user,
            password=server.password,
            db=server.database,
            autocommit=True,
            connect_timeout=5,
        )

    async def leave(self, connection: Any) -> None:
        connection.close()

    async def run(self, connection: Any, statement: str) -> list[Any]:
        async with connection.cursor() as cursor:
            await cursor.execute(statement)
            return list(await cursor.fetchall()) if cursor.description else []


def _account() -> str:
    import pwd

    return pwd.getpwuid(os.geteuid()).pw_name


class Redis(Kind):
    name, scheme, environment = "redis", "redis", "TASKWEAVE_TEST_REDIS_URL"
    user, database, port, driver, greeting = "default", "0", 6379, "redis", "PING"

    def prepare(self, server: Server) -> None:
        settings: dict[str, object] = {
            "bind": server.host,
            "port": server.port,
            "dir": server.folder,
            "requirepass": f'"{server.password}"',
            "save": '""',
            "appendonly": "yes" if server.durable else "no",
            "appendfsync": "always",
            **{name.replace("_", "-"): value for name, value in server.settings.items()},
        }
        _secret(server, "server.conf", "".join(f"{name} {value}\n" for name, value in settings.items()))

    def command(self, server: Server) -> list[str]:
        return [self.program(server), str(server.folder / "server.conf")]

    async def connect(self, server: Server) -> Any:
        from redis.asyncio import Redis as Client
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        client = Client(
            host=server.host,
            port=server.port,
            username=server.user or None,
            password=server.password or None,
            db=int(server.database or 0),
            decode_responses=True,
            socket_connect_timeout=5,
            single_connection_client=True,
            retry=Retry(NoBackoff(), 0),
        )
        await client.initialize()
        return client

    async def leave(self, connection: Any) -> None:
        await connection.aclose()

    async def run(self, connection: Any, statement: str) -> list[Any]:
        answer = await connection.execute_command(*statement.split())
        return answer if isinstance(answer, list) else [answer]


class Valkey(Redis):
    name, environment = "valkey", "TASKWEAVE_TEST_VALKEY_URL"


KINDS: dict[str, Kind] = {each.name: each() for each in (Postgres, PgBouncer, MariaDB, Redis, Valkey)}


async def join_cluster(nodes: Sequence[Server]) -> None:
    """Share all slots between these nodes; return when each says that the cluster is sound."""
    import asyncio

    redis = KINDS["redis"]
    slots = [16384 * index // len(nodes) for index in range(len(nodes) + 1)]
    for node, first, end in zip(nodes, slots, slots[1:], strict=False):
        await redis.admin(node, [f"CLUSTER ADDSLOTSRANGE {first} {end - 1}"])
    for node in nodes[1:]:
        await redis.admin(nodes[0], [f"CLUSTER MEET {node.host} {node.port} {node.settings['cluster_port']}"])
    for node in nodes:
        while not _sound((await redis.admin(node, ["CLUSTER INFO"]))[0], len(nodes)):
            await asyncio.sleep(0.02)  # no event says so; the caller's time limit bounds it


def _sound(info: Any, size: int) -> bool:
    said = info if isinstance(info, dict) else dict(line.split(":") for line in str(info).split())
    return said.get("cluster_state") == "ok" and str(said.get("cluster_size")) == str(size)
