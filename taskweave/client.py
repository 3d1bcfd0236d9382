"""An app's way to its store: opened once for each event loop that uses it, and once more for programs without one.

A store belongs to the loop that opened it, so a client keeps one opening for each running loop and finds the right
one by asking which loop is running. All of them share the jobs (`TaskStore.another`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

import anyio
import anyio.lowlevel
from attrs import define, evolve, field

from taskweave._runtime.blocking import Once, Portal, inside_loop
from taskweave._runtime.env import SystemEnv
from taskweave._runtime.loading import refuse_while_loading
from taskweave.abc import ABILITIES, EnqueuesInside, Env, StoreTransaction, TaskStore, lacking
from taskweave.connect import Make, opener
from taskweave.core.bounds import PAYLOAD_BYTES_MAX
from taskweave.core.job import Spec
from taskweave.core.verbs import Enqueue, Enqueued, How, Op
from taskweave.exceptions import (
    DuplicateId,
    InvalidStoreUrl,
    InvalidValue,
    MissingAbility,
    NotOpen,
    StoreError,
    SyncInsideLoop,
)
from taskweave.results import Results
from taskweave.stores.inside import needs_loop

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

A = TypeVar("A")
P = ParamSpec("P")
T = TypeVar("T")

WIRE_BATCH_MAX: Final = 1_000  # jobs in one op
RESENDS: Final = (0.1, 0.5, 2.0)  # seconds before an enqueue whose answer was lost is sent again


@define(eq=False)
class Opening:
    """A store as opened for one event loop; `users` counts the blocks that are inside it."""

    store: TaskStore
    results: Results
    users: int = 0
    lock: anyio.Lock = field(factory=anyio.Lock)
    opened: bool = False


def given(store: TaskStore) -> Make:
    """A store object instead of an address. Raises InvalidStoreUrl for what is neither."""
    if not hasattr(store, "apply") or not hasattr(store, "another"):
        raise InvalidStoreUrl(repr(store)[:80], "it is neither an address nor a TaskStore")
    return lambda _: store


def checked_needs(needs: Iterable[str]) -> tuple[str, ...]:
    """Return the names of abilities, in order. Raises InvalidValue for one that there is not."""
    names = (needs,) if isinstance(needs, str) else tuple(needs)
    for name in names:
        if name not in ABILITIES:
            raise InvalidValue("needs", name, f"some of {', '.join(ABILITIES)}")
    return names


class Client:
    """Where an app's tasks and handles send their verbs."""

    def __init__(
        self,
        store: str | TaskStore,
        env: Env | None,
        payload_bytes_max: int = PAYLOAD_BYTES_MAX,
        needs: Sequence[str] = (),
    ) -> None:
        self._needs = needs
        self.env: Env = env or SystemEnv()
        self._payload_bytes_max = payload_bytes_max
        make: Make = opener(store) if isinstance(store, str) else given(store)
        self._origin = Once(lambda: make(payload_bytes_max))
        self._openings: dict[Any, Opening] = {}
        self._portal = Portal(self.opened, "taskweave-sync")

    def redirect(self, store: str) -> None:
        """Use the store at this address instead; before anything was opened. Raises InvalidStoreUrl."""
        make = opener(store)
        self._origin = Once(lambda: make(self._payload_bytes_max))

    @property
    def origin(self) -> TaskStore:
        """The store that all openings share jobs with; itself it is never opened here."""
        return self._origin.get()

    @property
    def store(self) -> TaskStore:
        """The store as opened for the running loop. Raises NotOpen."""
        return self._opening().store

    @property
    def results(self) -> Results:
        """Raises NotOpen."""
        return self._opening().results

    def _opening(self) -> Opening:
        try:
            opening = self._openings[anyio.lowlevel.current_token()]
        except (KeyError, RuntimeError):  # not opened in this loop, or no loop at all
            raise NotOpen("app") from None
        if not opening.opened:
            raise NotOpen("app")
        return opening

    async def open(self) -> None:
        """Open the store for the running loop; inside an open block, count one more user.

        Raises StoreError, MissingAbility for a store that lacks what the app needs, and MissingMainGuard in a
        process-mode child that is still loading the program.
        """
        refuse_while_loading()
        token = anyio.lowlevel.current_token()
        opening = self._openings.get(token)
        if opening is None:
            store = self.origin.another()
            for ability in lacking(store, self._needs):
                raise MissingAbility(store.url, ability)
            opening = self._openings[token] = Opening(store, Results(store, self.env))
        opening.users += 1
        try:
            async with opening.lock:
                if not opening.opened:
                    await opening.store.__aenter__()
                    opening.opened = True
        except BaseException:
            opening.users -= 1
            if not opening.users:
                self._openings.pop(token, None)
            raise

    async def close(self) -> None:
        """Leave the block; the last one out closes the store."""
        token = anyio.lowlevel.current_token()
        opening = self._openings[token]
        opening.users -= 1
        if opening.users:
            return
        del self._openings[token]
        opening.opened = False
        opening.results.close()
        await opening.store.__aexit__(None, None, None)

    async def apply(self, op: Op[A]) -> A:
        """Raises NotOpen, StoreError, InvalidInput."""
        return await self._opening().store.apply(op)

    async def send(self, specs: Sequence[Spec], tx: object | None = None) -> list[Enqueued]:
        """Store all of these, WIRE_BATCH_MAX at a time; each batch all or nothing. Raises NotOpen, StoreError.

        With `tx`, a connection of the user's or a transaction of the store, they are there when that commits.
        """
        store = self._opening().store
        if tx is not None:
            return await _inside(store, specs, tx)
        if len(specs) <= WIRE_BATCH_MAX:
            return list(await self._enqueue(store, Enqueue(tuple(specs))))
        if len({spec.id for spec in specs}) != len(specs):
            raise DuplicateId(_repeated(specs))
        sent: list[Enqueued] = []
        for start in range(0, len(specs), WIRE_BATCH_MAX):
            try:
                sent += await self._enqueue(store, Enqueue(tuple(specs[start : start + WIRE_BATCH_MAX])))
            except Exception as error:
                error.add_note(f"{len(sent)} of {len(specs)} jobs had been stored before")
                raise
        return sent

    def send_here(self, specs: Sequence[Spec], tx: object, call: str, instead: str) -> list[Enqueued]:
        """As send with a synchronous `tx`, here and now, for programs without a loop. Raises SyncInsideLoop."""
        if inside_loop():
            raise SyncInsideLoop(call, instead)
        if needs_loop(tx):
            raise InvalidValue("tx", tx, f"a synchronous connection; with this one: await {instead}")
        return _at_once(_inside(self.origin, specs, tx), tx)

    async def _enqueue(self, store: TaskStore, op: Enqueue) -> Sequence[Enqueued]:
        """Send it; when nobody can say whether it arrived, send the same again: the ids make that safe."""
        try:
            return await store.apply(op)
        except StoreError as error:
            if error.applied != "unknown":
                raise
            lost = error
        for pause in RESENDS:
            await anyio.sleep(pause * (0.5 + self.env.random() / 2))
            try:
                answers = await store.apply(op)
            except StoreError as error:
                if not error.transient:
                    raise
                lost = error
                continue
            # found under its own id: the first sending had arrived
            pairs = zip(op.specs, answers, strict=True)
            return [
                evolve(each, how=How.CREATED) if each.how is How.EXISTING and each.id == spec.id else each
                for spec, each in pairs
            ]
        raise lost

    def blocking(self, call: str, instead: str, fn: Callable[P, Awaitable[T]], *a: P.args, **k: P.kwargs) -> T:
        """Run an async function of this client from a program without a loop. Raises SyncInsideLoop."""
        return self._portal.call(call, instead, fn, *a, **k)

    def opened(self) -> AbstractAsyncContextManager[None]:
        """The block in which this client is open."""
        return self._opened()

    @asynccontextmanager
    async def _opened(self) -> AsyncGenerator[None]:
        await self.open()
        try:
            yield
        finally:
            await self.close()

    def close_sync(self) -> None:
        """End the background thread, if one was started."""
        self._portal.close()


async def _inside(store: TaskStore, specs: Sequence[Spec], tx: object) -> list[Enqueued]:
    """Nothing is sent again here: what fails is undone, or done, with the rest of the transaction."""
    if len({spec.id for spec in specs}) != len(specs):
        raise DuplicateId(_repeated(specs))
    enqueued: list[Enqueued] = []
    for start in range(0, len(specs), WIRE_BATCH_MAX):
        op = Enqueue(tuple(specs[start : start + WIRE_BATCH_MAX]))
        if isinstance(tx, StoreTransaction):
            enqueued += await tx.apply(op)
        elif isinstance(store, EnqueuesInside):
            enqueued += await store.enqueue_inside(tx, op)
        else:
            raise MissingAbility(store.url, "task.options(tx=...)")
    return enqueued


def _at_once(enqueue: Coroutine[Any, Any, T], tx: object) -> T:
    """What this coroutine returns; with a synchronous connection it never waits. Raises InvalidValue if it does."""
    try:
        enqueue.send(None)
    except StopIteration as stop:
        value: T = stop.value
        return value
    finally:
        enqueue.close()
    raise InvalidValue("tx", tx, "a synchronous connection; this one has to be awaited")


def _repeated(specs: Sequence[Spec]) -> str:
    seen: set[str] = set()
    for spec in specs:
        if spec.id in seen:
            return spec.id
        seen.add(spec.id)
    return ""
