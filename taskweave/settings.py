"""How an app's workers run, unless the one that starts a worker says otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict

from attrs import field, fields, frozen

from taskweave.abc import Observer
from taskweave.core.bounds import check_name
from taskweave.core.ids import MILLISECOND, Duration, Micros, span_us
from taskweave.exceptions import InvalidValue
from taskweave.options import check_known


def _span(least: Micros) -> Any:
    def check(_: object, attribute: Any, value: Duration) -> None:
        span_us(value, attribute.name, least=least)

    return check


def _slots(_: object, __: object, value: int) -> None:
    from taskweave._runtime.executor import checked_slots

    checked_slots(value)


def _weights(value: Iterable[str] | Mapping[str, int] | None) -> tuple[tuple[str, int], ...] | None:
    if value is None:
        return None
    from taskweave._runtime.executor import queue_weights

    return queue_weights(value)


def _processes(_: object, __: object, value: int | None) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1_000):
        raise InvalidValue("processes", value, "an integer from 1 to 1000, or None for the number of processors")


def _name(_: object, __: object, value: str | None) -> None:
    if value is not None:
        check_name("name", value)


class ExecutorOptions(TypedDict, total=False):
    """What may be said about one worker, over what its app says; None leaves a setting as it is."""

    concurrency: int | None
    queues: Iterable[str] | Mapping[str, int] | None
    lease: Duration | None
    grace: Duration | None
    poll: Duration | None
    maintain: Duration | None
    processes: int | None
    observers: Sequence[Observer]
    name: str | None


@frozen
class WorkerSettings:
    """Checked when built. `queues` None means: those of the app's tasks. Raises InvalidValue, InvalidName."""

    concurrency: int = field(default=100, validator=_slots)
    queues: tuple[tuple[str, int], ...] | None = field(default=None, converter=_weights)
    lease: Duration = field(default="30s", validator=_span(100 * MILLISECOND))
    grace: Duration = field(default="30s", validator=_span(0))
    poll: Duration = field(default="1s", validator=_span(MILLISECOND))
    maintain: Duration = field(default="1s", validator=_span(10 * MILLISECOND))
    processes: int | None = field(default=None, validator=_processes)
    observers: tuple[Observer, ...] = field(default=(), converter=tuple)
    name: str | None = field(default=None, validator=_name)


def settings_of(base: WorkerSettings, given: Mapping[str, Any]) -> WorkerSettings:
    """`base` with what is given; None leaves a setting as it is. Raises UnknownOption, InvalidInput."""
    check_known(given, ExecutorOptions, "a worker")
    changes = {name: value for name, value in given.items() if value is not None}
    if not changes:
        return base
    kept: dict[str, Any] = {each.name: getattr(base, each.name) for each in fields(WorkerSettings)}
    if kept["queues"] is not None:
        kept["queues"] = dict(kept["queues"])
    observers: Sequence[Observer] = (*base.observers, *changes.pop("observers", ()))
    kept |= changes
    kept["observers"] = observers
    return WorkerSettings(**kept)
