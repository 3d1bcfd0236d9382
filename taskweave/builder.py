"""Builder: a long configuration step by step; it tells of everything that is wrong at once, at `build()`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from taskweave.abc import Env, Observer, TaskStore
from taskweave.app import App
from taskweave.core.ids import Duration
from taskweave.exceptions import BuildFailed, TaskweaveError

if TYPE_CHECKING:
    from typing import Unpack

    from taskweave.options import TaskOptions


class Builder:
    """Collects settings and tasks; the app that it builds equals the one that keywords make.

    No step raises: `build` raises one BuildFailed with all problems.
    """

    def __init__(self) -> None:
        self._store: str | TaskStore | None = None
        self._settings: dict[str, Any] = {}
        self._queues: dict[str, int] = {}
        self._observers: list[Observer] = []
        self._tasks: list[tuple[Callable[..., Any], dict[str, Any]]] = []

    def store(self, store: str | TaskStore) -> Self:
        self._store = store
        return self

    def name(self, name: str) -> Self:
        return self._set(name=name)

    def env(self, env: Env) -> Self:
        return self._set(env=env)

    def payload_bytes_max(self, size: int) -> Self:
        return self._set(payload_bytes_max=size)

    def result_bytes_max(self, size: int) -> Self:
        return self._set(result_bytes_max=size)

    def needs(self, *abilities: str) -> Self:
        return self._set(needs=abilities)

    def concurrency(self, slots: int) -> Self:
        return self._set(concurrency=slots)

    def queue(self, name: str, weight: int = 1) -> Self:
        """One more queue that its workers take from."""
        self._queues[name] = weight
        return self

    def lease(self, lease: Duration) -> Self:
        return self._set(lease=lease)

    def grace(self, grace: Duration) -> Self:
        return self._set(grace=grace)

    def poll(self, poll: Duration) -> Self:
        return self._set(poll=poll)

    def maintain(self, maintain: Duration) -> Self:
        return self._set(maintain=maintain)

    def processes(self, processes: int) -> Self:
        return self._set(processes=processes)

    def observer(self, observer: Observer) -> Self:
        self._observers.append(observer)
        return self

    def task(self, fn: Callable[..., Any], /, **options: Unpack[TaskOptions]) -> Self:
        """One more task; find it as `app.tasks[name]`."""
        self._tasks.append((fn, dict(options)))
        return self

    def _set(self, **setting: Any) -> Self:
        self._settings |= setting
        return self

    def build(self) -> App:
        """Return the app. Raises BuildFailed with every problem there is."""
        problems: list[str] = []
        given: dict[str, Any] = {}
        if self._store is not None:
            given["store"] = self._store
        given |= self._settings
        kept = {name: value for name, value in given.items() if not self._problem(problems, {name: value})}
        queues = {
            name: weight for name, weight in self._queues.items() if not self._queue_problem(problems, name, weight)
        }
        app = App(**kept, queues=queues or None, observers=tuple(self._observers))
        for fn, options in self._tasks:
            try:
                app.task(fn, **options)
            except TaskweaveError as error:
                problems.append(error.explain())
        if problems:
            raise BuildFailed(tuple(problems))
        return app

    def _problem(self, problems: list[str], setting: dict[str, Any]) -> bool:
        """Whether an app with this setting alone cannot be made."""
        try:
            alone: dict[str, Any] = {"store": "memory://"}
            App(**(alone | setting))
        except TaskweaveError as error:
            problems.append(error.explain())
            return True
        return False

    def _queue_problem(self, problems: list[str], name: str, weight: int) -> bool:
        return self._problem(problems, {"queues": {name: weight}})
