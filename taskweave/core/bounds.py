"""What a store accepts: every bound has a name and a unit, and is checked before anything is stored."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from taskweave.core.ids import SPAN_MAX_US, Micros
from taskweave.core.job import Spec
from taskweave.exceptions import DuplicateId, InvalidName, InvalidValue, PayloadTooLarge

NAME_CHARS_MAX: Final = 200
KEY_CHARS_MAX: Final = 500  # of a unique key, which holds the task's name besides the values
PAYLOAD_BYTES_MAX: Final = 1 << 20
RESULT_BYTES_MAX: Final = 1 << 20
ERROR_CHARS_MAX: Final = 8 << 10  # of one attempt: type, message and traceback together
PRIORITY_MIN: Final = -(1 << 15)
PRIORITY_MAX: Final = (1 << 15) - 1
ATTEMPTS_MAX: Final = 10_000
TAGS_MAX: Final = 32
BATCH_MAX: Final = 10_000  # jobs in one enqueue
INSTANT_MAX: Final[Micros] = 1 << 53  # the year 2255

_DELAY: Final = "microseconds from 0 to ten years"
_PRIORITY: Final = f"an integer from {PRIORITY_MIN} to {PRIORITY_MAX}"


@lru_cache(maxsize=4096)
def check_name(field: str, name: str) -> str:
    """Return the name of a queue, task, tag or key unchanged, or refuse it. Raises InvalidName."""
    if not isinstance(name, str):
        raise InvalidName(field, name, "is not text")
    if not name:
        raise InvalidName(field, name, "is empty")
    if len(name) > NAME_CHARS_MAX:
        raise InvalidName(field, name, f"has {len(name)} characters")
    if not name.isprintable():
        raise InvalidName(field, name, "has control or unprintable characters")
    return name


def check_spec(spec: Spec, payload_bytes_max: int = PAYLOAD_BYTES_MAX) -> None:
    """Refuse a spec that breaks a bound, naming the field. Raises InvalidInput."""
    check_name("task", spec.task)
    check_name("queue", spec.queue)
    if len(spec.payload) > payload_bytes_max:
        raise PayloadTooLarge(spec.task, len(spec.payload), payload_bytes_max)
    if not isinstance(spec.priority, int) or not PRIORITY_MIN <= spec.priority <= PRIORITY_MAX:
        raise InvalidValue("priority", spec.priority, _PRIORITY)
    if not 0 <= spec.delay_us <= SPAN_MAX_US:
        raise InvalidValue("delay", spec.delay_us, _DELAY)
    if spec.at is not None and spec.delay_us:
        raise InvalidValue("delay", spec.delay_us, "none beside an instant to run at")
    if spec.at is not None and not 0 <= spec.at <= INSTANT_MAX:
        raise InvalidValue("at", spec.at, "an instant between 1970 and 2255")
    if spec.expires_in_us is not None and not 0 < spec.expires_in_us <= SPAN_MAX_US:
        raise InvalidValue("deadline", spec.expires_in_us, "microseconds, more than 0, up to ten years")
    if spec.timeout_us is not None and not 0 < spec.timeout_us <= SPAN_MAX_US:
        raise InvalidValue("timeout", spec.timeout_us, "microseconds, more than 0, up to ten years")
    if not 1 <= spec.max_attempts <= ATTEMPTS_MAX:
        raise InvalidValue("max_attempts", spec.max_attempts, f"from 1 to {ATTEMPTS_MAX}")
    if not 1 <= spec.max_lost <= ATTEMPTS_MAX:
        raise InvalidValue("max_lost", spec.max_lost, f"from 1 to {ATTEMPTS_MAX}")
    if spec.at_most_once and spec.max_attempts != 1:
        raise InvalidValue("max_attempts", spec.max_attempts, "1, since the job is delivered at most once")
    if spec.tags:
        _check_tags(spec.tags)
    if spec.unique is not None and not 0 < len(spec.unique.key) <= KEY_CHARS_MAX:
        raise InvalidValue("unique key", spec.unique.key, f"text of 1 to {KEY_CHARS_MAX} characters")
    if not 0 <= spec.result_ttl_us <= SPAN_MAX_US:
        raise InvalidValue("result_ttl", spec.result_ttl_us, _DELAY)
    if not 0 <= spec.retention_us <= SPAN_MAX_US or not 0 <= spec.retention_failed_us <= SPAN_MAX_US:
        raise InvalidValue("retention", (spec.retention_us, spec.retention_failed_us), _DELAY)


def check_change(priority: int | None, delay_us: Micros | None) -> None:
    """Refuse a change of an unstarted job that breaks a bound. Raises InvalidValue."""
    if priority is not None and not PRIORITY_MIN <= priority <= PRIORITY_MAX:
        raise InvalidValue("priority", priority, _PRIORITY)
    if delay_us is not None and not 0 <= delay_us <= SPAN_MAX_US:
        raise InvalidValue("delay", delay_us, _DELAY)


def _check_tags(tags: tuple[tuple[str, str], ...]) -> None:
    if len(tags) > TAGS_MAX:
        raise InvalidValue("tags", len(tags), f"at most {TAGS_MAX} of them")
    for key, value in tags:
        check_name("tag", key)
        check_name(f"tag {key}", value)


def check_batch(specs: tuple[Spec, ...], payload_bytes_max: int = PAYLOAD_BYTES_MAX) -> None:
    """Refuse a batch with a bad spec, too many of them, or the same id twice. Raises InvalidInput."""
    if len(specs) > BATCH_MAX:
        raise InvalidValue("batch", len(specs), f"at most {BATCH_MAX} jobs in one enqueue")
    seen: set[str] = set()
    for spec in specs:
        if spec.id in seen:
            raise DuplicateId(spec.id)
        if not 0 < len(spec.id) <= NAME_CHARS_MAX:
            raise InvalidName("id", spec.id, f"has {len(spec.id)} characters")
        seen.add(spec.id)
        check_spec(spec, payload_bytes_max)
