"""The connections to the server: a command goes out and its raw answer comes back, or a StoreError says what is known.

Rules
  no retries    the driver's own are off: an op that may have been applied is resent by whoever knows its token, and
                only the server's "I have not done it" (NOSCRIPT, MOVED) is answered here
  sent or not   a connection is taken from the pool, and made if need be, before the op leaves: what fails there has
                proved that nothing was applied
  cluster       all keys of a store are in one slot, so one node has them all: the link asks that node, and follows when
                the slot has moved or another node was made its master

Everything here runs on the driver's loop, on the far side of the bridge.
"""

from __future__ import annotations

from contextlib import suppress
from inspect import signature
from typing import Any, Final

import hiredis
from redis.asyncio.connection import AbstractConnection, BlockingConnectionPool, Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AskError, MovedError, NoScriptError, RedisError, ResponseError

from taskweave.exceptions import StoreError, StoreUnavailable
from taskweave.stores._redis.address import Address
from taskweave.stores._redis.errors import broken, refused
from taskweave.stores._redis.scripts import Script

CONNECT_DEADLINE_S: Final = 5.0
POOL_WAIT_S: Final = 8.0  # less than the deadline of a call, so that a full pool says what it is
FOLLOWED_MAX: Final = 8  # moves of the slot in one call

_parser: Any = hiredis  # it declares few types
# Turns a command into bytes. On its asynchronous side the driver does that in Python, which costs eight times as much.
_pack: Final[Any] = _parser.pack_command

# Else each connection says who it is, by a command that a careful user's rights do not cover.
_NEW_DRIVER: Final = "driver_info" in signature(AbstractConnection).parameters
_SILENT: Final[dict[str, None]] = {"driver_info": None} if _NEW_DRIVER else {"lib_name": None, "lib_version": None}

Place = tuple[str, int]


class Link:
    """One pool of connections to the node that holds the store's keys."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._place: Place = (address.host, address.port)
        self._known: list[Place] = [self._place]  # nodes of the cluster, to ask when one is gone
        self._pool = self._new_pool(self._place)

    # --- commands -------------------------------------------------------------------------------------------------

    async def evaluate(self, script: Script, *arguments: Any) -> Any:
        """The answer of a script; the server is given its text where it does not know it. Raises StoreError."""
        with suppress(_NotLoaded):
            return await self.call("EVALSHA", script.sha, 1, *arguments)
        return await self.call("EVAL", script.text, 1, *arguments)

    async def call(self, *command: Any) -> Any:
        """The raw answer to one command. Raises StoreError."""
        if not self.address.cluster:
            return await self._ask(self._pool, command)
        for _ in range(FOLLOWED_MAX):
            try:
                return await self._ask(self._pool, command)
            except _Moved as moved:
                if moved.asking:
                    return await self._ask_there(moved.place, command)
                await self._go(moved.place)
            except StoreUnavailable as error:
                if error.applied == "unknown" or not await self._next_known():
                    raise
        raise StoreUnavailable(self.address.shown, "the cluster moves its keys too often")

    async def _ask(self, pool: BlockingConnectionPool, command: tuple[Any, ...]) -> Any:
        shown = self.address.shown
        try:
            connection = await _taken(pool)
        except RedisError as error:
            raise refused(error, shown, sent=False) from error
        except OSError as error:
            raise broken(error, shown, sent=False) from error
        try:
            await connection.send_packed_command(_pack(command))
            return await connection.read_response()
        except NoScriptError as error:
            raise _NotLoaded(shown, "the server does not know this script") from error
        except ResponseError as error:
            raise self._moved(error) or refused(error, shown, sent=True) from error
        except RedisError as error:
            raise refused(error, shown, sent=True) from error
        except OSError as error:
            raise broken(error, shown, sent=True) from error
        finally:
            await pool.release(connection)

    # --- connections ----------------------------------------------------------------------------------------------

    def new_connection(self) -> Connection:
        """One outside the pool, not yet connected, for a subscription."""
        options = self._options(self._place)
        return SSLConnection(**options) if self.address.tls else Connection(**options)

    async def close(self) -> None:
        await self._pool.disconnect()

    def _new_pool(self, place: Place) -> BlockingConnectionPool:
        return BlockingConnectionPool(
            max_connections=self.address.pool_max,
            timeout=POOL_WAIT_S,
            connection_class=SSLConnection if self.address.tls else Connection,
            **self._options(place),
        )

    def _options(self, place: Place) -> dict[str, Any]:
        return {
            "host": place[0],
            "port": place[1],
            "db": self.address.database,
            "username": self.address.user,
            "password": self.address.password,
            "socket_connect_timeout": CONNECT_DEADLINE_S,
            "socket_timeout": None,  # a call has one deadline, outside
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
            **_SILENT,
        }

    # --- a cluster ------------------------------------------------------------------------------------------------

    def _moved(self, error: ResponseError) -> StoreError | None:
        """The error that says where the keys are, if this is one."""
        said = str(error)
        if isinstance(error, AskError):  # a newer driver cuts the first word off, and to it a move is a kind of asking
            said = f"{'MOVED' if isinstance(error, MovedError) else 'ASK'} {said}"
        word, _, rest = said.partition(" ")
        if word not in ("MOVED", "ASK"):
            return None
        if not self.address.cluster:
            return refused(ResponseError(said), self.address.shown, sent=True)
        host, _, port = rest.partition(" ")[2].rpartition(
            ":"
        )  # after the slot; no host: the node does not know its own
        return _Moved(self.address.shown, said, (host or self._place[0], int(port)), word == "ASK")

    async def _go(self, place: Place) -> None:
        """Ask this node from now on."""
        old, self._pool, self._place = self._pool, self._new_pool(place), place
        await old.disconnect(inuse_connections=False)
        await self._learn()

    async def _learn(self) -> None:
        """Remember the nodes that the cluster has now."""
        ranges = await self._ask(self._pool, ("CLUSTER", "SLOTS"))
        nodes = [(node[0].decode() or self._place[0], int(node[1])) for each in ranges for node in each[2:]]
        self._known = list(dict.fromkeys([self._place, *nodes, *self._known]))

    async def _next_known(self) -> bool:
        """Go to another node, which will say who has the keys; False when this is the only one."""
        others = [place for place in self._known if place != self._place]
        if not others:
            return False
        self._known = [*others, self._place]
        old, self._pool, self._place = self._pool, self._new_pool(others[0]), others[0]
        await old.disconnect(inuse_connections=False)
        return True

    async def _ask_there(self, place: Place, command: tuple[Any, ...]) -> Any:
        """The slot is on its way to this node, which has this key already."""
        pool = self._new_pool(place)
        try:
            connection = await _taken(pool)
            await connection.send_command("ASKING")
            await connection.read_response()
            await pool.release(connection)
            return await self._ask(pool, command)
        except RedisError as error:
            raise refused(error, self.address.shown, sent=False) from error
        finally:
            await pool.disconnect()


async def _taken(pool: Any) -> Any:
    """A connection of this pool that is connected; the driver declares no types here."""
    return await pool.get_connection()


class _NotLoaded(StoreError):
    """The server does not know the script; nothing was done."""


class _Moved(StoreError):
    """Another node has the keys; nothing was done."""

    def __init__(self, store: str, problem: str, place: Place, asking: bool) -> None:
        super().__init__(store, problem)
        self.place = place
        self.asking = asking
