"""A job as one line of text: for backups, and for saying of two stores that they mean the same.

The line is strict JSON in ASCII with sorted keys and holds everything that a store keeps of a job but what only that
store can mean: its seq, and a lease (`core.moving.parked` gives a running job back first). So equal jobs have equal
lines, whichever stores they come from, and unequal ones do not. What is None or empty is left out, nothing else: a
line does not depend on the defaults of the version that wrote it. Bytes are text where they are UTF-8, else base64.

The shape is that of the classes, read from their annotations; FORMAT changes when they do in a way that older lines do
not fit any more. `job_of` is total: a job or a DecodeError, for any text. What fits the shapes may still be nonsense;
`core.moving.check_jobs` refuses that.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Any, Final, Literal, TypeGuard, Union, get_args, get_origin, get_type_hints

from attrs import fields, has

from taskweave._codec.wire import is_dict, is_list
from taskweave.core.job import Job
from taskweave.core.moving import parked
from taskweave.exceptions import DecodeError

FORMAT: Final = 1

_LEFT_OUT: Final = {"seq", "hold"}
_BASE64: Final = "base64"
_encoder: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def line_of(job: Job) -> str:
    """Equal for jobs that mean the same, wherever they are stored; a running job counts as given back."""
    return _encoder.encode(_document(parked(job)))


def job_of(text: str, where: str) -> Job:
    """The job of a line, with seq 0. Raises DecodeError naming `where`."""
    try:
        job = _reader(Job)(json.loads(text))
    except RecursionError as error:
        raise DecodeError(where, "it is nested too deep") from error
    except (ValueError, TypeError, KeyError) as error:
        raise DecodeError(where, _reason(error)) from error
    assert isinstance(job, Job)
    return job


def _reason(error: Exception) -> str:
    return f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)[:200]


# --- writing ------------------------------------------------------------------------------------------------------


def _document(value: Any) -> Any:
    if isinstance(value, bytes):
        return _text_or_base64(value)
    if _is_tuple(value):
        return [_document(each) for each in value]
    names = _names(value.__class__)
    if names is None:
        return value
    found = ((name, getattr(value, name)) for name in names)
    return {name: _document(each) for name, each in found if each is not None and each != ()}


def _is_tuple(value: object) -> TypeGuard[tuple[Any, ...]]:
    return isinstance(value, tuple)


@cache
def _names(kind: Any) -> tuple[str, ...] | None:
    return tuple(each.name for each in fields(kind) if each.name not in _LEFT_OUT) if has(kind) else None


def _text_or_base64(value: bytes) -> str | dict[str, str]:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {_BASE64: b64encode(value).decode()}


# --- reading ------------------------------------------------------------------------------------------------------

Reader = Callable[[Any], Any]


@cache
def _reader(kind: Any) -> Reader:
    """A function that turns plain data into a value of this type; it raises ValueError, TypeError or KeyError."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is tuple:
        return _tuple_reader(arguments)
    if origin is Literal:
        return _choice_reader(arguments)
    if origin in (Union, UnionType):
        present = [each for each in arguments if each is not NoneType]
        return _reader(present[0])  # None is never written, so only the other one is read
    if kind is bytes:
        return _bytes
    if has(kind):
        return _object_reader(kind)
    if issubclass(kind, Enum):
        return _member_reader(kind)
    return _exactly(kind)


def _exactly(kind: type) -> Reader:
    def read(value: Any) -> Any:
        if value.__class__ is not kind:
            raise TypeError(f"{_shown(value)} is not of type {kind.__name__}")
        return value

    return read


def _member_reader(kind: type[Enum]) -> Reader:
    def read(value: Any) -> Enum:
        return kind(value)

    return read


def _choice_reader(choices: tuple[Any, ...]) -> Reader:
    def read(value: Any) -> Any:
        if value not in choices:
            raise ValueError(f"{_shown(value)} is none of {', '.join(map(str, choices))}")
        return value

    return read


def _tuple_reader(arguments: tuple[Any, ...]) -> Reader:
    each = _reader(arguments[0])
    length = None if arguments[1:] == (...,) else len(arguments)

    def read(value: Any) -> tuple[Any, ...]:
        if not is_list(value) or length not in (None, len(value)):
            raise TypeError(f"{_shown(value)} is not a list{f' of {length}' if length else ''}")
        return tuple([each(one) for one in value])

    return read


def _object_reader(kind: Any) -> Reader:
    hints = get_type_hints(kind)
    readers = {name: _reader(hints[name]) for name in _names(kind) or ()}
    empty = {name: () if get_origin(hints[name]) is tuple else None for name in readers if _may_be_empty(hints[name])}
    fixed = {"seq": 0} if "seq" in hints else {}

    def read(value: Any) -> Any:
        if not is_dict(value):
            raise TypeError(f"{_shown(value)} is not an object")
        unknown = value.keys() - readers.keys()
        if unknown:
            raise ValueError(f"{kind.__name__} has no {min(unknown)}")
        missing = readers.keys() - value.keys() - empty.keys()
        if missing:
            raise ValueError(f"{kind.__name__} lacks its {min(missing)}")
        return kind(**fixed, **(empty | {name: readers[name](each) for name, each in value.items()}))

    return read


def _may_be_empty(hint: Any) -> bool:
    """Whether a field of this type may be left out of the document."""
    return NoneType in get_args(hint) or (get_origin(hint) is tuple and get_args(hint)[1:] == (...,))


def _bytes(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if is_dict(value) and value.keys() == {_BASE64} and isinstance(value[_BASE64], str):
        return b64decode(value[_BASE64], validate=True)
    raise TypeError(f"{_shown(value)} is neither text nor base64")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
