"""How a function's run ended, as a value: the same rules in the worker's own process and in a child.

Rules
  result     encoded where the function ran; one that cannot be stored ends the attempt without a retry
  control    Snooze, RetryAfter, Cancel, Abort; a delay that is no delay makes it an ordinary exception
  exception  text only
"""

from __future__ import annotations

from typing import Any, cast

from attrs import frozen

from taskweave._runtime.failures import failure_of
from taskweave._runtime.work import CallCodec
from taskweave.core.events import Ending, RunEnded
from taskweave.core.ids import Fence, JobId, Micros, span_us
from taskweave.core.job import Failure, Spec
from taskweave.exceptions import Abort, Cancel, InvalidInput, RetryAfter, Snooze


@frozen
class RawEnd:
    """The end of one run without the job that it belongs to."""

    ending: Ending
    result: bytes | None = None
    failure: Failure | None = None
    delay_us: Micros = 0
    cause: str | None = None
    reason: str | None = None
    spawn: tuple[Spec, ...] = ()

    def of(self, id: JobId, fence: Fence, jitter: float) -> RunEnded:
        """This end as the event that the engine is told."""
        return RunEnded(
            id,
            fence,
            self.ending,
            self.result,
            failure=self.failure,
            delay_us=self.delay_us,
            cause=self.cause,
            reason=self.reason,
            spawn=self.spawn,
            jitter=jitter,
        )


def returned(codec: CallCodec, value: object) -> RawEnd:
    """The end of a function that returned this value."""
    result = encoded(codec, value)
    return RawEnd(Ending.RETURNED, result) if isinstance(result, bytes) else result


def encoded(codec: CallCodec, value: object) -> bytes | RawEnd:
    """The bytes of a result, or the end of a run whose result cannot be stored."""
    try:
        return codec.encode_result(value)
    except InvalidInput as error:
        return _unstorable(type(error).__name__, error.explain())
    except Exception as error:  # noqa: BLE001 - user code runs in here: properties, __iter__, hooks of converters
        return _unstorable(type(error).__name__, f"the result cannot be stored: {failure_of(error).message}")


def _unstorable(type: str, message: str) -> RawEnd:
    kinds = ("taskweave.ResultError", "builtins.Exception")
    return RawEnd(Ending.ABORTED, failure=Failure(type, message, kinds=kinds), cause="result_error")


def raised(error: BaseException) -> RawEnd:
    """The end of a function that raised this; control exceptions first."""
    match error:
        case Snooze() | RetryAfter():
            try:
                delay = span_us(cast("Any", error.delay), "delay")
            except InvalidInput as invalid:
                return RawEnd(Ending.RAISED, failure=failure_of(invalid))
            reason = str(error.reason) or None
            if isinstance(error, Snooze):
                return RawEnd(Ending.SNOOZED, delay_us=delay, reason=reason)
            return RawEnd(Ending.RETRY_AFTER, delay_us=delay, reason=reason, failure=failure_of(error))
        case Cancel():
            return RawEnd(Ending.CANCELLED, reason=str(error.reason) or "the task cancelled itself")
        case Abort():
            reason = str(error.reason) or None
            return RawEnd(Ending.ABORTED, failure=failure_of(error), cause="abort", reason=reason)
        case _:
            return RawEnd(Ending.RAISED, failure=failure_of(error))
