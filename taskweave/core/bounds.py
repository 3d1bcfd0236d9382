"""What a store accepts: every bound has a name and a unit, and is checked before anything is stored."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from taskweave.core.ids import SPAN_MAX_US, Micros
from taskweave.core.job import Spec
from taskweave.core.unique import UniqueKey
from taskweave.exceptions import DuplicateId, InvalidName, InvalidValue, PayloadTooLarge

NAME_CHARS_MAX: Final = 200
KEY_CHARS_MAX: Final = 500  # of a unique key, which holds the task's name besides the values
PAYLOAD_BYTES_MAX: Final = 1 << 20
RESULT_BYTES_MAX: Final = 1 << 20
ERROR_CHARS_MAX: Final = 8 << 10  # of one attempt: type, message and traceback together
PRIORITY_MIN: Final = -(1 << 15)
PRIORITY_MAX: Final = (1 << 15) - 1
ATTEMPTS_MAX: Final = 10_000
VERSION_MAX: Final = (1 << 31) - 1  # of a task's payload
TAGS_MAX: Final = 32
BATCH_MAX: Final = 10_000  # jobs in one enqueue
INSTANT_MAX: Final[Micros] = 1 << 53  # the year 2255

_DELAY: Final = "microseconds from 0 to ten years"
_SPAN: Final = "microseconds, more than 0, up to ten years"
_ATTEMPTS: Final = f"an integer from 1 to {ATTEMPTS_MAX}"
_PRIORITY: Final = f"an integer from {PRIORITY_MIN} to {PRIORITY_MAX}"


def check_name(field: str, name: str) -> str:
    """Return the name of a queue, task, tag or key unchanged, or refuse it. Raises InvalidName."""
    if not isinstance(name, str):
        raise InvalidName(field, name, "is not text")  # here too: the cache cannot even look up a list
    return _checked_name(field, name)


def check_spec(spec: Spec, payload_bytes_max: int = PAYLOAD_BYTES_MAX) -> None:
    """Refuse a spec that breaks a bound, naming the field. Raises InvalidInput."""
    payload = spec.payload
    try:
        _checked_name("task", spec.task)
        _checked_name("queue", spec.queue)
        within = _within(spec) and len(payload) <= payload_bytes_max and payload.__class__ is bytes
    except TypeError:  # something that is no text or number at all
        within = False
    if not within:
        _refuse(spec, payload_bytes_max)
    if spec.tags:
        _check_tags(spec.tags)
    if spec.unique is not None:
        _check_unique(spec.unique)


def check_change(priority: int | None, delay_us: Micros | None) -> None:
    """Refuse a change of an unstarted job that breaks a bound. Raises InvalidValue."""
    if priority is not None:
        _check_whole("priority", priority, PRIORITY_MIN, PRIORITY_MAX, _PRIORITY)
    if delay_us is not None:
        _check_whole("delay", delay_us, 0, SPAN_MAX_US, _DELAY)


def check_batch(specs: tuple[Spec, ...], payload_bytes_max: int = PAYLOAD_BYTES_MAX) -> None:
    """Refuse a batch with a bad spec, too many of them, or the same id twice. Raises InvalidInput."""
    if len(specs) > BATCH_MAX:
        raise InvalidValue("batch", len(specs), f"at most {BATCH_MAX} jobs in one enqueue")
    seen: set[str] = set()
    for spec in specs:
        id = spec.id
        if not isinstance(id, str) or not 0 < len(id) <= NAME_CHARS_MAX or not id.isprintable():
            check_name("id", id)
        if id in seen:
            raise DuplicateId(id)
        seen.add(id)
        check_spec(spec, payload_bytes_max)


@lru_cache(maxsize=4096)
def _checked_name(field: str, name: str) -> str:
    if not isinstance(name, str):
        raise InvalidName(field, name, "is not text")
    if not name:
        raise InvalidName(field, name, "is empty")
    if len(name) > NAME_CHARS_MAX:
        raise InvalidName(field, name, f"has {len(name)} characters")
    if not name.isprintable():
        raise InvalidName(field, name, "has control or unprintable characters")
    return name


def _within(spec: Spec) -> bool:
    """Whether all numbers are within their bounds, in one go for the hot path; a float among them makes the sum one."""
    at, expires, timeout = spec.at, spec.expires_in_us, spec.timeout_us
    numbers = (
        (version := spec.version)
        + (priority := spec.priority)
        + (delay := spec.delay_us)
        + (attempts := spec.max_attempts)
        + (lost := spec.max_lost)
        + (result := spec.result_ttl_us)
        + (kept := spec.retention_us)
        + (failed := spec.retention_failed_us)
    )
    return (
        numbers.__class__ is int
        and 1 <= version <= VERSION_MAX
        and PRIORITY_MIN <= priority <= PRIORITY_MAX
        and 0 <= delay <= SPAN_MAX_US
        and 1 <= attempts <= ATTEMPTS_MAX
        and 1 <= lost <= ATTEMPTS_MAX
        and 0 <= result <= SPAN_MAX_US
        and 0 <= kept <= SPAN_MAX_US
        and 0 <= failed <= SPAN_MAX_US
        and (at is None or (at.__class__ is int and 0 <= at <= INSTANT_MAX and not delay))
        and (expires is None or (expires.__class__ is int and 0 < expires <= SPAN_MAX_US))
        and (timeout is None or (timeout.__class__ is int and 0 < timeout <= SPAN_MAX_US))
        and not (spec.at_most_once and attempts != 1)
    )


def _refuse(spec: Spec, payload_bytes_max: int) -> None:
    """The same one by one, to name the field that is wrong."""
    check_name("task", spec.task)
    check_name("queue", spec.queue)
    if not isinstance(spec.payload, bytes):
        raise InvalidValue("payload", spec.payload, "bytes")
    if len(spec.payload) > payload_bytes_max:
        raise PayloadTooLarge(spec.task, len(spec.payload), payload_bytes_max)
    _check_whole("version", spec.version, 1, VERSION_MAX, f"an integer from 1 to {VERSION_MAX}")
    _check_whole("priority", spec.priority, PRIORITY_MIN, PRIORITY_MAX, _PRIORITY)
    _check_whole("delay", spec.delay_us, 0, SPAN_MAX_US, _DELAY)
    if spec.at is not None:
        _check_whole("at", spec.at, 0, INSTANT_MAX, "an instant between 1970 and 2255")
        if spec.delay_us:
            raise InvalidValue("delay", spec.delay_us, "none beside an instant to run at")
    if spec.expires_in_us is not None:
        _check_whole("deadline", spec.expires_in_us, 1, SPAN_MAX_US, _SPAN)
    if spec.timeout_us is not None:
        _check_whole("timeout", spec.timeout_us, 1, SPAN_MAX_US, _SPAN)
    _check_whole("max_attempts", spec.max_attempts, 1, ATTEMPTS_MAX, _ATTEMPTS)
    _check_whole("max_lost", spec.max_lost, 1, ATTEMPTS_MAX, _ATTEMPTS)
    if spec.at_most_once and spec.max_attempts != 1:
        raise InvalidValue("max_attempts", spec.max_attempts, "1, since the job is delivered at most once")
    _check_whole("result_ttl", spec.result_ttl_us, 0, SPAN_MAX_US, _DELAY)
    _check_whole("retention", spec.retention_us, 0, SPAN_MAX_US, _DELAY)
    _check_whole("retention", spec.retention_failed_us, 0, SPAN_MAX_US, _DELAY)


def _check_whole(field: str, value: int, least: int, most: int, expected: str) -> None:
    """Exactly an int: a float, a NaN or a bool would come back from a store as something else."""
    if value.__class__ is not int or not least <= value <= most:
        raise InvalidValue(field, value, expected)


def _check_tags(tags: tuple[tuple[str, str], ...]) -> None:
    if len(tags) > TAGS_MAX:
        raise InvalidValue("tags", len(tags), f"at most {TAGS_MAX} of them")
    for key, value in tags:
        check_name("tag", key)
        check_name(f"tag {key}", value)
    if len({key for key, _ in tags}) != len(tags):
        raise InvalidValue("tags", tags, "each key once")


def _check_unique(unique: UniqueKey) -> None:
    key = unique.key
    if not isinstance(key, str) or not 0 < len(key) <= KEY_CHARS_MAX or not key.isprintable():
        raise InvalidValue("unique key", key, f"printable text of 1 to {KEY_CHARS_MAX} characters")
    if (unique.until is None) == (unique.within_us is None):
        raise InvalidValue("unique", unique, "either until or within")
    if unique.within_us is not None:
        _check_whole("within", unique.within_us, 1, SPAN_MAX_US, _SPAN)
