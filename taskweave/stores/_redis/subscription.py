"""Wake-ups from the server: scripts publish on the namespace's channels, and a connection of its own listens.

Messages are hints, never relied on: a subscription that is lost is logged once and taken again, and until then those
who listen poll.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

import anyio
from redis.exceptions import RedisError

from taskweave._bridge import Bridge
from taskweave.exceptions import StoreError
from taskweave.stores._redis.errors import broken, refused
from taskweave.stores._redis.link import Link
from taskweave.stores.wakeups import Listener

log = logging.getLogger("taskweave.store")

AGAIN_FIRST_S: Final = 0.1
AGAIN_LAST_S: Final = 5.0


async def hear(bridge: Bridge, link: Link, listener: Listener) -> None:
    """Wake the listener at every message, until cancelled."""
    channels = channels_of(link.address.prefix, listener)
    pause = AGAIN_FIRST_S
    silent = False  # it is lost, and that was said

    def heard() -> None:
        nonlocal pause, silent
        pause, silent = AGAIN_FIRST_S, False
        listener.wake()

    while True:
        try:
            await bridge.run(_listen, link, channels, heard)
        except StoreError as error:
            if not silent:
                log.warning("hints are lost, polling until they are back: %s", error)
                silent = True
        await anyio.sleep(pause)
        pause = min(2 * pause, AGAIN_LAST_S)


def channels_of(prefix: str, listener: Listener) -> list[str]:
    return [f"{prefix}w:{queue}" for queue in sorted(listener.queues)] or [f"{prefix}ends"]


async def _listen(link: Link, channels: list[str], heard: Callable[[], None]) -> None:
    """On the driver's loop; returns only by an error. The first call says that something may have been missed."""
    connection: Any = link.new_connection()  # the driver declares few types here
    try:
        await connection.connect()
        await connection.send_command("SUBSCRIBE", *channels)
        for _ in channels:
            await connection.read_response()
        heard()
        while True:
            await connection.read_response()
            heard()
    except RedisError as error:
        raise refused(error, link.address.shown, sent=False) from error
    except OSError as error:
        raise broken(error, link.address.shown, sent=False) from error
    finally:
        await connection.disconnect()
