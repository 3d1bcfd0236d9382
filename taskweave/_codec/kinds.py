"""Which annotations can be stored at all, told without the converter: a task is checked when it is registered."""

from __future__ import annotations

import datetime as dt
import types
import typing
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any, Final, Literal, TypeGuard
from uuid import UUID

import attrs

from taskweave._codec.plain import bare, is_alias, named, plain_check

UNIONS: Final = (typing.Union, types.UnionType)
SCALARS: Final = (dt.datetime, dt.date, dt.time, dt.timedelta, UUID, Decimal, bytes, PurePath, Enum)

# annotation -> (what it is loaded as, what it accepts)
_ABSTRACT: Final[dict[Any, tuple[type, tuple[type, ...]]]] = {
    list: (list, (list,)),
    Sequence: (list, (list, tuple)),
    Collection: (list, (list, tuple)),
    Iterable: (list, (list, tuple)),
    tuple: (tuple, (tuple,)),
    set: (set, (set,)),
    frozenset: (frozenset, (frozenset,)),
    Set: (frozenset, (set, frozenset)),
    dict: (dict, (dict,)),
    Mapping: (dict, (dict,)),
}


def container_of(annotation: Any) -> tuple[type | None, tuple[type, ...], tuple[Any, ...]]:
    """What a container is loaded as, what it accepts, and its parts; (None, (), ()) for what is no container."""
    origin = typing.get_origin(annotation) or annotation
    try:
        kind, accepted = _ABSTRACT[origin]
    except (KeyError, TypeError):
        return None, (), ()
    parts = typing.get_args(annotation)
    if not parts and annotation != tuple[()]:
        parts = (str, Any) if kind is dict else (Any, ...)
    return kind, accepted, parts


def unstorable(annotation: Any, within: tuple[Any, ...] = ()) -> str | None:
    """Why values of this annotation cannot be stored, or None when they can."""
    if annotation in within or plain_check(annotation) is not None:
        return None
    if is_alias(annotation):
        return unstorable(annotation.__value__, (*within, annotation))
    annotation = bare(annotation)
    origin, parts = typing.get_origin(annotation) or annotation, typing.get_args(annotation)
    if origin is Literal:
        return _first(*(unstorable(type(each), within) for each in parts))
    if origin in UNIONS:
        return _first(*(unstorable(each, within) for each in parts))
    if container_of(annotation)[0] is not None:
        return _first(*(unstorable(each, within) for each in parts if each is not Ellipsis))
    if _is_type(origin):
        if issubclass(origin, SCALARS):
            return None
        if attrs.has(origin) or hasattr(origin, "__dataclass_fields__") or _keyed(origin):
            return _fields_unstorable(origin, (*within, annotation))
    return f"{named(annotation)} has no form in JSON"


def _is_type(origin: object) -> TypeGuard[type[Any]]:
    return isinstance(origin, type)


def _keyed(kind: type) -> bool:
    return typing.is_typeddict(kind) or (hasattr(kind, "_fields") and issubclass(kind, tuple))


def _fields_unstorable(kind: type[Any], within: tuple[Any, ...]) -> str | None:
    try:
        hints = typing.get_type_hints(kind, include_extras=True)
    except (NameError, TypeError) as error:
        return f"the annotations of {kind.__name__} cannot be resolved ({error})"
    for name, hint in hints.items():
        if typing.get_origin(hint) is typing.ClassVar or hint is typing.ClassVar or isinstance(hint, typing.TypeVar):
            continue
        problem = unstorable(hint, within)
        if problem is not None:
            return f"{kind.__name__}.{name}: {problem}"
    return None


def _first(*problems: str | None) -> str | None:
    return next((problem for problem in problems if problem is not None), None)
