"""Exceptions as text: bounded, and safe against exceptions that fail while they are shown."""

from __future__ import annotations

import traceback
from types import TracebackType
from typing import Final

from taskweave.core.bounds import ERROR_CHARS_MAX
from taskweave.core.job import Failure
from taskweave.core.retry import kinds

MESSAGE_CHARS_MAX: Final = ERROR_CHARS_MAX // 4


def failure_of(error: BaseException) -> Failure:
    """Return the exception as text of at most ERROR_CHARS_MAX characters; never raises.

    The traceback keeps its end, where the error is. Frames of taskweave itself are left out.
    """
    message = clean(_message(error))
    if len(message) > MESSAGE_CHARS_MAX:
        message = message[: MESSAGE_CHARS_MAX - 1] + "…"
    text = clean(_traceback(error))
    room = ERROR_CHARS_MAX - len(message) - 200
    if len(text) > room:
        text = "…" + text[-(room - 1) :]
    return Failure(clean(type(error).__name__)[:200], message, text, kinds(type(error)))


def clean(text: str) -> str:
    """Text that every store and encoder takes: lone surrogates and NULs are shown, not kept."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\x00", "\\x00")


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as second:  # noqa: BLE001 - the user's __str__ may raise anything; that is the message then
        return f"<__str__ raised {type(second).__name__}>"


def _traceback(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(type(error), error, _user_frames(error), limit=-20, chain=True))
    except BaseException as second:  # noqa: BLE001 - as above: cyclic causes, broken __notes__, deep recursion
        return f"<no traceback: formatting it raised {type(second).__name__}>"


def _user_frames(error: BaseException) -> TracebackType | None:
    """The traceback from the first frame that is not the runtime's own."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        module = frame.tb_frame.f_globals.get("__name__", "")
        if not str(module).startswith("taskweave._runtime"):
            break
        frame = frame.tb_next
    return frame
