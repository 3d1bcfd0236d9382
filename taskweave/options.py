"""What users may say about a task and about one call of it, checked once and kept as the prototype of its jobs.

A Plan is everything that the jobs of one (task, options) share: a Spec without id, arguments and unique key. Making a
job from it is one constructor call, since bulk enqueues make tens of thousands a second.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypedDict, TypeGuard, TypeVar

from attrs import evolve, fields, frozen

from taskweave.core.bounds import PRIORITY_MAX, PRIORITY_MIN, check_name, check_spec
from taskweave.core.ids import DAY, Duration, JobId, Micros, span_us
from taskweave.core.job import Spec
from taskweave.core.retry import Retry
from taskweave.core.unique import Unique, UniqueKey
from taskweave.exceptions import InvalidName, InvalidValue, NaiveDatetime, UnknownOption

if TYPE_CHECKING:
    from taskweave._runtime.work import RunIn, RunMode

Tags: TypeAlias = Mapping[str, str] | Iterable[str]
T = TypeVar("T")

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SHARED: Final = tuple(each.name for each in fields(Spec))[4:]  # after id, task, queue, payload
_UNIQUE_AT: Final = _SHARED.index("unique")
_DEFAULTS: Final = Spec("", "", "", b"")
_ID_CHARS: Final = frozenset("0123456789abcdefABCDEF-")


class TaskOptions(TypedDict, total=False):
    """The options of `app.task`. Spans are "30s", seconds, or a timedelta."""

    name: str  # default: module.qualified_name
    queue: str
    retry: Retry | int
    priority: int
    timeout: Duration
    unique: Unique
    run_in: RunIn | RunMode  # default: "loop" for async functions, "thread" for others
    version: int  # of the payload
    delivery: Literal["at_least_once", "at_most_once"]
    result_ttl: Duration
    retention: Duration
    tags: Tags
    max_lost: int
    deadline: Duration  # from the enqueue: a job that could not start by then expires


class CallOptions(TypedDict, total=False):
    """The options of `task.options`: for one call, over those of the task."""

    delay: Duration
    at: datetime
    queue: str
    priority: int
    unique: Unique
    deadline: Duration
    tags: Tags  # added to the task's
    timeout: Duration
    attempts: int
    id: JobId
    tx: Any  # a connection of your own, in whose open transaction the job is enqueued


def shared_with(shared: tuple[Any, ...], key: UniqueKey) -> tuple[Any, ...]:
    return shared[:_UNIQUE_AT] + (key,) + shared[_UNIQUE_AT + 1 :]  # noqa: RUF005 - unpacking would lose the types


@frozen
class Plan:
    """What the jobs of a task, under these options, have in common."""

    spec: Spec
    unique: Unique | None
    id: JobId | None
    shared: tuple[Any, ...]

    @classmethod
    def of(cls, spec: Spec, unique: Unique | None, id: JobId | None = None) -> Plan:
        """Check the prototype and keep it. Raises InvalidInput naming the field."""
        check_spec(spec)
        return cls(spec, unique, id, tuple(getattr(spec, name) for name in _SHARED))

    def job(self, id: JobId, payload: bytes, key: UniqueKey | None = None) -> Spec:
        shared = self.shared
        if key is not None:
            shared = shared_with(shared, key)
        return Spec(id, self.spec.task, self.spec.queue, payload, *shared)

    def changed(self, changes: Mapping[str, Any]) -> Plan:
        """This plan under the options of one call. Raises UnknownOption, InvalidInput."""
        check_known(changes, CallOptions, "task.options")
        spec, now = self.spec, dict[str, Any]()
        if "delay" in changes and "at" in changes:
            raise InvalidValue("at", changes["at"], "nothing, since delay is given too; give one of the two")
        if "delay" in changes:
            now |= {"delay_us": span_us(changes["delay"], "delay"), "at": None}
        if "at" in changes:
            now |= {"at": instant(changes["at"], "at"), "delay_us": 0}
        if "queue" in changes:
            now["queue"] = check_text("queue", changes["queue"])
        if "priority" in changes:
            now["priority"] = priority(changes["priority"])
        if "deadline" in changes:
            now["expires_in_us"] = span_us(changes["deadline"], "deadline", least=1)
        if "timeout" in changes:
            now["timeout_us"] = span_us(changes["timeout"], "timeout", least=1)
        if "attempts" in changes:
            now["max_attempts"] = whole("attempts", changes["attempts"])
        if "tags" in changes:
            now["tags"] = tuple((dict(spec.tags) | dict(tags(changes["tags"]))).items())
        unique = typed("unique", changes["unique"], Unique, "a Unique") if "unique" in changes else self.unique
        id = job_id(changes["id"]) if "id" in changes else self.id
        return Plan.of(evolve(spec, **now), unique, id)


def planned(name: str, options: Mapping[str, Any], retry: Retry | None) -> Plan:
    """The plan of a task from its options. Raises InvalidInput naming the field."""
    given: dict[str, Any] = {"max_attempts": 1 if retry is None else retry.attempts}
    if "queue" in options:
        check_text("queue", options["queue"])
    if "priority" in options:
        given["priority"] = priority(options["priority"])
    if "timeout" in options:
        given["timeout_us"] = span_us(options["timeout"], "timeout", least=1)
    if "deadline" in options:
        given["expires_in_us"] = span_us(options["deadline"], "deadline", least=1)
    if "version" in options:
        given["version"] = whole("version", options["version"])
    if "max_lost" in options:
        given["max_lost"] = whole("max_lost", options["max_lost"])
    if "tags" in options:
        given["tags"] = tags(options["tags"])
    if "delivery" in options:
        delivery = options["delivery"]
        if delivery not in ("at_least_once", "at_most_once"):
            raise InvalidValue("delivery", delivery, "'at_least_once' or 'at_most_once'")
        given["at_most_once"] = delivery == "at_most_once"
    unique = typed("unique", options["unique"], Unique, "a Unique") if "unique" in options else None
    given |= _kept(options)
    return Plan.of(Spec("", name, options.get("queue", "default"), b"", **given), unique)


def _kept(options: Mapping[str, Any]) -> dict[str, Micros]:
    """How long results and rows stay; a row outlives its result, and a dead letter stays at least a month."""
    kept: dict[str, Micros] = {}
    if "result_ttl" in options:
        kept["result_ttl_us"] = span_us(options["result_ttl"], "result_ttl")
    if "retention" in options:
        kept["retention_us"] = span_us(options["retention"], "retention")
        kept["retention_failed_us"] = max(kept["retention_us"], 30 * DAY)
        if "result_ttl_us" in kept and kept["result_ttl_us"] > kept["retention_us"]:
            raise InvalidValue("retention", options["retention"], "at least result_ttl, since the row holds the result")
        kept.setdefault("result_ttl_us", min(kept["retention_us"], _DEFAULTS.result_ttl_us))
    elif kept.get("result_ttl_us", 0) > _DEFAULTS.retention_us:
        kept["retention_us"] = kept["result_ttl_us"]
    return kept


def retry_of(value: object) -> Retry:
    """A Retry, or a number of attempts as one. Raises InvalidValue."""
    if isinstance(value, int) and not isinstance(value, bool):
        return Retry(value)
    return typed("retry", value, Retry, "a Retry, or a number of attempts")


def check_known(given: Mapping[str, Any], options: type, where: str) -> None:
    """Refuse an option that there is not, with the nearest that there is. Raises UnknownOption."""
    known = list(options.__annotations__)
    for name in given:
        if name not in known:
            near = get_close_matches(name, known, 1, 0.5)
            raise UnknownOption(name, where, near[0] if near else None)


def typed(field: str, value: object, kind: type[T], expected: str) -> T:
    if not isinstance(value, kind):
        raise InvalidValue(field, value, expected)
    return value


def whole(field: str, value: object) -> int:
    """A positive integer. Raises InvalidValue."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidValue(field, value, "an integer from 1")
    return value


def priority(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not PRIORITY_MIN <= value <= PRIORITY_MAX:
        raise InvalidValue("priority", value, f"an integer from {PRIORITY_MIN} to {PRIORITY_MAX}, larger ones first")
    return int(value)


def instant(value: object, field: str) -> Micros:
    """An aware datetime in microseconds since 1970. Raises NaiveDatetime, InvalidValue."""
    moment = typed(field, value, datetime, "an aware datetime")
    if moment.utcoffset() is None:
        raise NaiveDatetime(field, moment)
    return (moment - _EPOCH) // timedelta(microseconds=1)


def check_text(field: str, value: object) -> str:
    """A name within the bounds. Raises InvalidName."""
    if not isinstance(value, str):
        raise InvalidName(field, value, "is not text")
    return check_name(field, value)


def job_id(value: object) -> JobId:
    """A UUID in its text form: an enqueue that is sent again with it makes no second job. Raises InvalidValue."""
    if not isinstance(value, str) or len(value) != 36 or not _ID_CHARS.issuperset(value) or value.count("-") != 4:
        raise InvalidValue("id", value, "a UUID as text, e.g. str(uuid.uuid4())")
    return value.lower()


def _is_mapping(value: object) -> TypeGuard[Mapping[Any, Any]]:
    return isinstance(value, Mapping)


def _is_several(value: object) -> TypeGuard[Iterable[Any]]:
    return isinstance(value, Iterable) and not isinstance(value, str | bytes)


def tags(value: object) -> tuple[tuple[str, str], ...]:
    """Pairs of key and value; a bare tag has the value "true". Raises InvalidValue, InvalidName."""
    pairs: list[tuple[Any, Any]]
    if _is_mapping(value):
        pairs = list(value.items())
    elif _is_several(value):
        pairs = [(each, "true") for each in value]
    else:
        raise InvalidValue("tags", value, "a mapping of text to text, or several texts")
    return tuple((check_text("tag", key), check_text(f"tag {key}", text)) for key, text in pairs)
