"""Uniqueness: at most one job with a key in its scope, decided by the store in the commit of the enqueue.

Three exclusive scopes: until the job is finished (default); until it is first started, never retaken by a retry;
within a span from its enqueue, whatever its state. The key is (task, values): the queue is no part of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from json import dumps
from typing import Final, Literal, TypeAlias

from attrs import frozen

from taskweave.core.ids import Duration, Micros, span_us
from taskweave.exceptions import InvalidValue, NotSerializable

_KEY_CHARS_MAX: Final = 200  # longer keys become a digest, long before the store's bound
_TASK_SHOWN: Final = 120  # characters of the task's name left readable before a digest

OnConflict: TypeAlias = Literal["return", "replace", "raise"]


@frozen
class UniqueKey:
    """A key with its scope, as stored on the row: `within_us` excludes `until`."""

    key: str
    until: Literal["finished", "started"] | None = "finished"
    within_us: Micros | None = None
    on_conflict: OnConflict = "return"


@frozen(init=False)
class Unique:
    """Bounds a task to one job per key in its scope; enqueues that meet a holder do as `on_conflict` says.

    `by` names the parameters whose values make the key; without it all arguments do. `until` is "finished" (default)
    or "started"; `within` ("10m", seconds, a timedelta) is a window from the enqueue instead. On a conflict "return"
    answers with the holder, "replace" puts the new call in its place unless it has started, "raise" refuses with
    UniqueConflict. Raises InvalidValue.
    """

    by: tuple[str, ...] | None
    until: Literal["finished", "started"] | None
    within_us: Micros | None
    on_conflict: OnConflict

    def __init__(
        self,
        *,
        by: str | tuple[str, ...] | None = None,
        until: Literal["finished", "started"] | None = None,
        within: Duration | None = None,
        on_conflict: OnConflict = "return",
    ) -> None:
        names = (by,) if isinstance(by, str) else by
        if names is not None and (not isinstance(names, tuple) or not names or len(set(names)) != len(names)):
            raise InvalidValue("by", by, "a parameter's name, or a tuple of different ones")
        if until not in (None, "finished", "started"):
            raise InvalidValue("until", until, "'finished' or 'started'")
        if until is not None and within is not None:
            raise InvalidValue("within", within, f"nothing, since until={until!r} is another scope")
        if on_conflict not in ("return", "replace", "raise"):
            raise InvalidValue("on_conflict", on_conflict, "'return', 'replace' or 'raise'")
        put = object.__setattr__
        put(self, "by", names)
        put(self, "until", (until or "finished") if within is None else None)
        put(self, "within_us", None if within is None else span_us(within, "within", least=1))
        put(self, "on_conflict", on_conflict)

    def key_for(self, task: str, values: Mapping[str, object]) -> UniqueKey:
        """Return equal keys for equal values of the parameters in `by` (of all, without it), and for no others.

        The values are plain data, as JSON has it; the key is their canonical JSON beside the task, or a digest of
        that where it is long. Raises InvalidValue for a missing parameter and NotSerializable for other data.
        """
        names = values.keys() if self.by is None else self.by
        for name in names:
            if name not in values:
                raise InvalidValue("by", name, f"a parameter of {task}: {', '.join(values)}")
        picked = {name: values[name] for name in names}
        try:
            text = dumps([task, picked], sort_keys=True, separators=(",", ":"), allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise NotSerializable(task, "unique key", str(error)) from error
        if len(text) > _KEY_CHARS_MAX:
            text = f"[{task[:_TASK_SHOWN]}]{blake2b(text.encode(), digest_size=24).hexdigest()}"
        return UniqueKey(text, self.until, self.within_us, self.on_conflict)
