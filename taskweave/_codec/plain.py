"""Shapes of plain JSON data: what an annotation made of primitives, lists and dicts accepts, as one function each.

A check takes a value, returns nothing, and raises Mismatch with the path to what does not fit. Nothing is converted:
"1" is no int, True is no int, a tuple is no list (it would come back as one). An int fits a float, as for type
checkers; subclasses fit (they come back as their plain base, which compares equal). These checks are the whole
price of a task that takes plain data: the converter for classes is then never imported.

`plain_check` answers None for an annotation that needs the converter.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from math import isfinite
from typing import Any, Final, Literal, TypeAlias, cast

from taskweave._codec.wire import DEPTH_MAX, is_dict, is_list

Check: TypeAlias = Callable[[Any], None]

_WRAPPERS: Final = (typing.Annotated, typing.Required, typing.NotRequired, typing.Final)
_LISTS: Final = (list, Sequence, Collection, Iterable)
_DICTS: Final = (dict, Mapping)


class Mismatch(ValueError):
    """A value does not fit its annotation; `path` leads to it from the argument, e.g. "[2].name"."""

    def __init__(self, problem: str, path: str = "") -> None:
        super().__init__(problem)
        self.problem, self.path = problem, path

    def within(self, step: str) -> Mismatch:
        """The same, seen from one step further out; a path is bounded as every message is."""
        return Mismatch(self.problem, (step + self.path)[:200])


def shown(value: object) -> str:
    """What a value is, for a message: its type and a bounded repr."""
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001 - the user's object; its failure is the fact to show
        text = f"<__repr__ raised {type(error).__name__}>"
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:59] + '…'}"


def _of(kind: type | tuple[type, ...], name: str) -> Check:
    def check(value: Any) -> None:
        if not isinstance(value, kind):
            raise Mismatch(f"expected {name}, got {shown(value)}")

    return check


def _number(kind: type | tuple[type, ...], name: str) -> Check:
    def check(value: Any) -> None:
        if not isinstance(value, kind) or isinstance(value, bool):
            raise Mismatch(f"expected {name}, got {shown(value)}")
        if isinstance(value, float) and not isfinite(value):
            raise Mismatch(f"{value} is not JSON; expected a finite {name}")

    return check


def _text(value: Any) -> None:
    if not isinstance(value, str):
        raise Mismatch(f"expected str, got {shown(value)}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Mismatch("text holds a lone surrogate, which UTF-8 cannot carry") from None


def check_any(value: Any, depth: int = 0) -> None:
    """Accept plain JSON data of any form."""
    if isinstance(value, str):
        _text(value)
    elif value is None or isinstance(value, int):
        return
    elif isinstance(value, float):
        _float(value)
    elif depth >= DEPTH_MAX:
        raise Mismatch(f"it is nested more than {DEPTH_MAX} deep, or contains itself")
    elif is_list(value):
        for index, item in enumerate(value):
            try:
                check_any(item, depth + 1)
            except Mismatch as error:
                raise error.within(f"[{index}]") from None
    elif is_dict(value):
        for key, item in value.items():
            _key(key)
            try:
                check_any(item, depth + 1)
            except Mismatch as error:
                raise error.within(f"[{key!r}]") from None
    else:
        raise Mismatch(f"{shown(value)} is not plain JSON data; annotate the parameter with its type")


def _key(key: object) -> None:
    if not isinstance(key, str):
        raise Mismatch(f"the key {shown(key)} is not text; annotate the parameter, e.g. dict[int, str]")
    _text(key)


_float: Final = _number((int, float), "float")
_PRIMITIVES: Final[dict[Any, Check]] = {
    str: _text,
    int: _number(int, "int"),
    float: _float,
    bool: _of(bool, "bool"),
    None: _of(types.NoneType, "None"),
    types.NoneType: _of(types.NoneType, "None"),
    Any: check_any,
    object: check_any,
}


def _list_check(kind: type | tuple[type, ...], item: Check) -> Check:
    def check(value: Any) -> None:
        if not isinstance(value, kind):
            raise Mismatch(f"expected list, got {shown(value)}")
        for index, each in enumerate(cast("list[Any]", value)):
            try:
                item(each)
            except Mismatch as error:
                raise error.within(f"[{index}]") from None

    return check


def _dict_check(item: Check) -> Check:
    def check(value: Any) -> None:
        if not is_dict(value):
            raise Mismatch(f"expected dict, got {shown(value)}")
        for key, each in value.items():
            _key(key)
            try:
                item(each)
            except Mismatch as error:
                raise error.within(f"[{key!r}]") from None

    return check


def _union_check(checks: Sequence[Check], name: str) -> Check:
    def check(value: Any) -> None:
        for each in checks:
            try:
                each(value)
            except Mismatch:
                continue  # another member may fit; if none does, the message below says so
            return
        raise Mismatch(f"expected {name}, got {shown(value)}")

    return check


def _literal_check(allowed: tuple[Any, ...]) -> Check | None:
    if any(type(each) not in (str, int, bool, types.NoneType) for each in allowed):
        return None

    def check(value: Any) -> None:
        # 1 == True, so the type is compared too
        if not any(type(value) is type(each) and value == each for each in allowed):
            raise Mismatch(f"expected one of {', '.join(map(repr, allowed))}, got {shown(value)}")

    return check


def bare(annotation: Any) -> Any:
    """The annotation without what does not change its values: NewType, Annotated, Required, `type X = ...`."""
    while True:
        if isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        elif typing.get_origin(annotation) in _WRAPPERS:
            annotation = typing.get_args(annotation)[0]
        elif is_alias(annotation):
            annotation = annotation.__value__
        else:
            return annotation


def is_alias(annotation: Any) -> bool:
    """Whether it was made by a `type X = ...` statement (Python 3.12): the only way to refer to itself."""
    return type(annotation).__name__ == "TypeAliasType"


def plain_check(annotation: Any, within: tuple[Any, ...] = ()) -> Check | None:
    """The check of an annotation that is all plain data; None where it is not.

    `within` are the aliases that are being looked into: one that refers to itself accepts any plain data inside.
    """
    if is_alias(annotation):
        if annotation in within:
            return check_any
        within = (*within, annotation)
        return plain_check(annotation.__value__, within)
    unwrapped = bare(annotation)
    if unwrapped is not annotation:
        return plain_check(unwrapped, within)
    if isinstance(annotation, type | types.NoneType) or annotation is Any:
        simple = _PRIMITIVES.get(annotation)
        if simple is not None:
            return simple
    origin, arguments = typing.get_origin(annotation) or annotation, typing.get_args(annotation)
    if origin is Literal:
        return _literal_check(arguments)
    checks = [each for each in (plain_check(argument, within) for argument in arguments) if each is not None]
    if len(checks) != len(arguments):
        return None
    if origin in (typing.Union, types.UnionType):
        return _union_check(checks, named(annotation))
    if origin in _LISTS and len(checks) <= 1:
        kind: type | tuple[type, ...] = list if origin is list else (list, tuple)
        return _list_check(kind, checks[0] if checks else check_any)
    if origin in _DICTS and (not checks or bare(arguments[0]) is str):
        return _dict_check(checks[1] if checks else check_any)
    return None


def named(annotation: Any) -> str:
    """How an annotation is written, for messages."""
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return annotation.__qualname__
    return str(annotation).replace("typing.", "")
