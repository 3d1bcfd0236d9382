"""The document on the wire: strict JSON in UTF-8, one reader and one writer for everything that is stored.

A payload is the document `[args, kwargs]`, a result is a bare value. The version of a document stands beside it, in
the job, not in it: a worker can refuse a version that it does not know without reading anything.

Rules, the same in both directions, so that whatever is written can be read
  depth      at most DEPTH_MAX brackets inside each other
  numbers    NaN and infinities do not exist; integers of any size survive; a float is read only if it is finite
  keys       text, each once in its object
  text       Unicode without lone surrogates

`read` is total: a value or a DecodeError, for any bytes. Rejected: repairing what is nearly right, since two readers
that repair differently see two jobs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from json import encoder as _encoder
from math import isfinite
from typing import Any, Final, NoReturn, TypeGuard, cast

from taskweave.exceptions import DecodeError

DEPTH_MAX: Final = 64
CODEC: Final = "json"

_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")


class Unwritable(ValueError):
    """A value that has no document; the text says why."""


def is_list(value: object) -> TypeGuard[list[Any]]:
    """isinstance, for type checkers that would not know what a list from JSON holds."""
    return isinstance(value, list)


def is_dict(value: object) -> TypeGuard[dict[Any, Any]]:
    """Likewise for a dict."""
    return isinstance(value, dict)


def _refuse(value: object) -> NoReturn:
    raise Unwritable(f"{type(value).__name__} is not plain JSON data")


def _make_writer() -> Callable[[object], Sequence[str]]:
    """The standard library's encoder, made once: JSONEncoder.encode makes one at each call, which doubles the time."""
    make: Any = getattr(_encoder, "c_make_encoder", None)
    if make is None:  # an interpreter without the accelerator
        slow = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_refuse)
        return lambda value: (slow.encode(value),)
    # markers, default, encoder, indent, key and item separator, sort_keys, skipkeys, allow_nan. Without markers a
    # cycle would recurse: the callers' checks are bounded in depth and come first.
    fast: Any = make(None, _refuse, _encoder.encode_basestring, None, ":", ",", False, False, False)
    return lambda value: fast(value, 0)


_chunks: Final = _make_writer()


def write(value: object) -> bytes:
    """Return the document of a value that has passed a shape's check. Raises Unwritable."""
    try:
        document = "".join(_chunks(value)).encode()
    except UnicodeEncodeError as error:
        raise Unwritable("text holds a lone surrogate, which UTF-8 cannot carry") from error
    except RecursionError as error:
        raise Unwritable(f"it is nested more than {DEPTH_MAX} deep, or contains itself") from error
    except ValueError as error:
        if isinstance(error, Unwritable):
            raise
        raise Unwritable(_reason(error)) from error
    if len(document) > DEPTH_MAX and _brackets(document) > DEPTH_MAX and _deeper_than(value, DEPTH_MAX):
        raise Unwritable(f"it is nested more than {DEPTH_MAX} deep, or contains itself")
    return document


def read(document: bytes, field: str) -> Any:
    """Return the value of any bytes, or raise DecodeError naming `field`."""
    try:
        value = _decode(document.decode())
    except UnicodeDecodeError as error:
        raise DecodeError(field, f"it is not UTF-8 (byte {error.start})") from error
    except RecursionError as error:
        raise DecodeError(field, f"it is nested more than {DEPTH_MAX} deep") from error
    except ValueError as error:
        raise DecodeError(field, f"it is not strict JSON: {_reason(error)}") from error
    if len(document) > DEPTH_MAX and _brackets(document) > DEPTH_MAX and _deeper_than(value, DEPTH_MAX):
        raise DecodeError(field, f"it is nested more than {DEPTH_MAX} deep")
    if b"\\u" in document and _SURROGATE.search(document) and _has_surrogate(value):
        raise DecodeError(field, "text holds a lone surrogate")
    return value


def arguments(payload: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the plain arguments of a payload, for any bytes, or raise DecodeError."""
    document = read(payload, "payload")
    if is_list(document) and len(document) == 2 and is_list(document[0]) and is_dict(document[1]):
        return tuple(document[0]), document[1]
    raise DecodeError("payload", "it is not [args, kwargs]")


def _reason(error: ValueError) -> str:
    text = str(error)
    if "Out of range float" in text:
        return "NaN and infinity are not JSON"
    if "integer string conversion" in text:
        return "an integer has too many digits"
    return text[:200]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has the same key twice")
    return found


def _constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not isfinite(value):
        raise ValueError(f"the number {text[:20]} is too large for a float")
    return value


_decoder: Final[Any] = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_float=_finite)
_scan: Final[Callable[[str, int], tuple[Any, int]]] = _decoder.scan_once


def _decode(text: str) -> Any:
    """The value of a text; one scan for what `write` makes, without the search for space around it."""
    try:
        value, end = _scan(text, 0)
    except StopIteration:
        end = -1
        value = None
    return value if end == len(text) else _decoder.decode(text)


def _brackets(document: bytes) -> int:
    return document.count(b"[") + document.count(b"{")


def _deeper_than(value: object, most: int) -> bool:
    level: list[Any] = [value]
    for _ in range(most + 1):
        inner: list[Any] = []
        for each in level:
            if is_dict(each):
                inner.extend(each.values())
            elif is_list(each) or isinstance(each, tuple):
                inner.extend(cast("Iterable[Any]", each))
        if not inner and not any(isinstance(each, dict | list | tuple) for each in level):
            return False
        level = inner
    return True


def _has_surrogate(value: object) -> bool:
    waiting: list[Any] = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, str):
            if any("\ud800" <= char <= "\udfff" for char in each):
                return True
        elif is_dict(each):
            waiting.extend(each)
            waiting.extend(each.values())
        elif is_list(each):
            waiting.extend(each)
    return False
