"""The one cattrs converter: annotations that are more than plain JSON data, strictly in both directions.

Imported when the first such value is stored or read, never before: a program of plain tasks does not pay for it.
cattrs takes classes apart and puts them together (attrs, dataclasses, TypedDicts, named tuples); everything inside
them goes through the hooks here, which convert nothing silently: a value that does not have its annotated type is a
Mismatch with its path.

On the wire: datetime, date, time as ISO 8601 (a datetime with its offset: a naive one is refused), timedelta in
microseconds, UUID, Decimal and Path as text, bytes as base64, an Enum by its value (by its name, where values are not
text or integers), sets and tuples as lists, dicts whose keys are not text as lists of pairs. A union takes the first
member that fits, and refuses a value whose document an earlier member would claim.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import typing
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from enum import Enum
from pathlib import PurePath
from types import NoneType
from typing import Any, Final, TypeAlias
from uuid import UUID

import attrs
import cattrs
from cattrs.errors import ClassValidationError, ForbiddenExtraKeysError
from cattrs.gen import make_dict_unstructure_fn

from taskweave._codec.kinds import UNIONS, container_of
from taskweave._codec.plain import Mismatch, bare, check_any, named, plain_check, shown
from taskweave._codec.wire import is_dict, is_list

Dump: TypeAlias = Callable[[Any], Any]
Load: TypeAlias = Callable[[Any, Any], Any]
Hooks: TypeAlias = tuple[Dump, Load]

_MICROSECOND: Final = dt.timedelta(microseconds=1)


# --- scalars ------------------------------------------------------------------------------------------------------


def _text_of(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise Mismatch(f"expected {name} as text, got {shown(value)}")
    return value


def _aware(value: dt.datetime) -> dt.datetime:
    if value.utcoffset() is None:
        raise Mismatch(f"{value.isoformat()} has no time zone; pass an aware datetime, e.g. datetime.now(UTC)")
    return value


def _dump_timedelta(value: dt.timedelta) -> int:
    return value // _MICROSECOND


def _load_timedelta(value: Any) -> dt.timedelta:
    if isinstance(value, bool) or not isinstance(value, int):
        raise Mismatch(f"expected timedelta in whole microseconds, got {shown(value)}")
    return dt.timedelta(microseconds=value)


def _load_decimal(value: Any) -> Decimal:
    return _finite_decimal(Decimal(_text_of(value, "Decimal")))


def _finite_decimal(value: Decimal) -> Decimal:
    if not value.is_finite():
        raise Mismatch(f"{value} is not finite")
    return value


# class -> (dump, load); a load may raise ValueError, ArithmeticError or TypeError, which becomes a Mismatch
_SCALARS: Final[dict[type, tuple[Dump, Callable[[Any], Any]]]] = {
    dt.datetime: (
        lambda value: _aware(value).isoformat(),
        lambda value: _aware(dt.datetime.fromisoformat(_text_of(value, "datetime"))),
    ),
    dt.date: (dt.date.isoformat, lambda value: dt.date.fromisoformat(_text_of(value, "date"))),
    dt.time: (dt.time.isoformat, lambda value: dt.time.fromisoformat(_text_of(value, "time"))),
    dt.timedelta: (_dump_timedelta, _load_timedelta),
    UUID: (str, lambda value: UUID(_text_of(value, "UUID"))),
    Decimal: (lambda value: str(_finite_decimal(value)), _load_decimal),
    bytes: (
        lambda value: base64.b64encode(value).decode(),
        lambda value: base64.b64decode(_text_of(value, "base64 bytes"), validate=True),
    ),
}


def _register_scalar(converter: cattrs.Converter, kind: type, dump: Dump, load: Callable[[Any], Any]) -> None:
    def checked_dump(value: Any) -> Any:
        # a datetime is a date by inheritance, and would lose its time
        if not isinstance(value, kind) or (kind is dt.date and isinstance(value, dt.datetime)):
            raise Mismatch(f"expected {kind.__name__}, got {shown(value)}")
        return dump(value)

    def checked_load(value: Any, _: Any) -> Any:
        try:
            return load(value)
        except Mismatch:
            raise
        except (ValueError, ArithmeticError, InvalidOperation, TypeError) as error:
            raise Mismatch(f"expected {kind.__name__}, got {shown(value)}") from error

    converter.register_unstructure_hook(kind, checked_dump)
    converter.register_structure_hook(kind, checked_load)


def _path_hooks(kind: Any) -> Hooks:
    def dump(value: Any) -> str:
        if not isinstance(value, kind):
            raise Mismatch(f"expected {kind.__name__}, got {shown(value)}")
        return str(value)

    return dump, lambda value, _: kind(_text_of(value, kind.__name__))


def _enum_hooks(kind: type[Enum]) -> Hooks:
    by_value = all(type(each.value) in (str, int) or isinstance(each, str | int) for each in kind)

    def dump(value: Any) -> Any:
        if not isinstance(value, kind):
            raise Mismatch(f"expected {kind.__name__}, got {shown(value)}")
        return value.value if by_value else value.name

    def load(value: Any, _: Any) -> Enum:
        if isinstance(value, str | int) and not isinstance(value, bool):
            with suppress(ValueError, KeyError):  # the message below names the members there are
                return kind(value) if by_value else kind[str(value)]
        members = ", ".join(repr(each.value if by_value else each.name) for each in kind)
        raise Mismatch(f"expected one of {members[:200]}, got {shown(value)}")

    return dump, load


# --- plain data, containers, unions -------------------------------------------------------------------------------


def _plain_hooks(annotation: Any) -> Hooks:
    check = plain_check(annotation) or check_any

    def dump(value: Any) -> Any:
        check(value)
        return value

    def load(value: Any, _: Any) -> Any:
        check(value)
        return value

    return dump, load


def _each(convert: Callable[[Any], Any], items: typing.Iterable[Any]) -> list[Any]:
    converted: list[Any] = []
    for index, item in enumerate(items):
        with _step(f"[{index}]"):
            converted.append(convert(item))
    return converted


class _step:  # noqa: N801 - read as a word: with _step("[3]")
    """Adds one step to the path of what fails inside."""

    def __init__(self, step: str) -> None:
        self.step = step

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, Exception):
            raise explained(error).within(self.step) from error


def _listed(value: Any, name: str) -> list[Any]:
    if not is_list(value):
        raise Mismatch(f"expected {name} as a list, got {shown(value)}")
    return value


def _collection_hooks(converter: cattrs.Converter, annotation: Any) -> Hooks:
    kind, accepted, (item, *_) = container_of(annotation)
    dump_item, load_item, name = _dumper(converter, item), _loader(converter, item), named(annotation)

    def dump(value: Any) -> Any:
        if not isinstance(value, accepted):
            raise Mismatch(f"expected {name}, got {shown(value)}")
        items = _each(dump_item, typing.cast("typing.Iterable[Any]", value))
        # sets have no order; the document has one, so that equal arguments make equal bytes and equal unique keys
        return sorted(items, key=repr) if kind in (set, frozenset) else items

    def load(value: Any, _: Any) -> Any:
        items = _each(load_item, _listed(value, name))
        try:
            return (kind or list)(items)
        except TypeError as error:
            raise Mismatch(f"expected {name} of hashable items") from error

    return dump, load


def _tuple_hooks(converter: cattrs.Converter, annotation: Any) -> Hooks:
    parts, name = typing.get_args(annotation), named(annotation)
    dumps, loads = [_dumper(converter, part) for part in parts], [_loader(converter, part) for part in parts]

    def walk(value: Any, converts: list[Callable[[Any], Any]]) -> list[Any]:
        if len(value) != len(converts):
            raise Mismatch(f"expected {name}, got {len(value)} items")
        converted: list[Any] = []
        for index, (convert, item) in enumerate(zip(converts, value, strict=True)):
            with _step(f"[{index}]"):
                converted.append(convert(item))
        return converted

    def dump(value: Any) -> Any:
        if not isinstance(value, tuple):
            raise Mismatch(f"expected {name}, got {shown(value)}")
        return walk(value, dumps)

    return dump, lambda value, _: tuple(walk(_listed(value, name), loads))


def _dict_hooks(converter: cattrs.Converter, annotation: Any) -> Hooks:
    _, _, (key, item) = container_of(annotation)
    name, paired = named(annotation), key is not str
    dump_key, dump_item = _dumper(converter, key), _dumper(converter, item)
    load_key, load_item = _loader(converter, key), _loader(converter, item)

    def dump(value: Any) -> Any:
        if not is_dict(value):
            raise Mismatch(f"expected {name}, got {shown(value)}")
        pairs: list[tuple[Any, Any]] = []
        for each, inner in value.items():
            with _step(f"[{each!r}]"):
                pairs.append((dump_key(each), dump_item(inner)))
        return [list(pair) for pair in pairs] if paired else dict(pairs)

    def load(value: Any, _: Any) -> Any:
        if paired:
            pairs = [tuple(_listed(pair, "a pair")) for pair in _listed(value, name)]
            if any(len(pair) != 2 for pair in pairs):
                raise Mismatch(f"expected {name} as a list of pairs")
        elif is_dict(value):
            pairs = list(value.items())
        else:
            raise Mismatch(f"expected {name}, got {shown(value)}")
        loaded: dict[Any, Any] = {}
        for each, inner in pairs:
            with _step(f"[{each!r}]"):
                loaded[load_key(each)] = load_item(inner)
        if len(loaded) != len(pairs):
            raise Mismatch("the same key stands twice")
        return loaded

    return dump, load


def _container_hooks(converter: cattrs.Converter, annotation: Any) -> Hooks:
    kind, _, parts = container_of(annotation)
    if kind is dict:
        return _dict_hooks(converter, annotation)
    if kind is tuple and not (len(parts) == 2 and parts[1] is Ellipsis):
        return _tuple_hooks(converter, annotation)
    return _collection_hooks(converter, annotation)


def _union_hooks(converter: cattrs.Converter, annotation: Any) -> Hooks:
    members, name = typing.get_args(annotation), named(annotation)
    dumps, loads = [_dumper(converter, each) for each in members], [_loader(converter, each) for each in members]

    def dump(value: Any) -> Any:
        if value is None and NoneType in members:
            return None
        reasons: list[Mismatch] = []
        for index, dump_member in enumerate(dumps):
            try:
                document = dump_member(value)
            except Exception as error:  # noqa: BLE001 - not this member: another class fails in any way it likes
                reasons.append(explained(error))
                continue
            for earlier, load_earlier in zip(members[:index], loads, strict=False):
                if _loads(load_earlier, document):
                    problem = f"{shown(value)} would come back as {named(earlier)}; annotate one type, not {name}"
                    raise Mismatch(problem)
            return document
        if len(members) == 2 and NoneType in members:
            raise reasons[0 if members[1] is NoneType else 1]
        raise Mismatch(f"expected {name}, got {shown(value)}")

    def load(value: Any, _: Any) -> Any:
        reasons: list[Mismatch] = []
        for load_member in loads:
            try:
                return load_member(value)
            except Exception as error:  # noqa: BLE001 - not this member; users' constructors raise what they like
                reasons.append(explained(error))
        if len(members) == 2 and NoneType in members:
            raise reasons[0 if members[1] is NoneType else 1]
        raise Mismatch(f"expected {name}, got {shown(value)}")

    return dump, load


def _loads(load: Callable[[Any], Any], document: Any) -> bool:
    try:
        load(document)
    except Exception:  # noqa: BLE001 - the question is whether it loads; users' constructors raise what they like
        return False
    return True


# --- classes, and the converter -----------------------------------------------------------------------------------


def _is_class(annotation: Any) -> bool:
    origin = typing.get_origin(annotation) or annotation
    return isinstance(origin, type) and (attrs.has(origin) or dataclasses.is_dataclass(origin))


def _class_dump(converter: cattrs.Converter, annotation: Any) -> Dump:
    inner: Dump = make_dict_unstructure_fn(annotation, converter)
    kind = typing.get_origin(annotation) or annotation

    def dump(value: Any) -> Any:
        if type(value) is not kind:  # a child would come back as its parent
            raise Mismatch(f"expected {kind.__name__}, got {shown(value)}")
        try:
            return inner(value)
        except Exception as error:  # users' properties raise what they like; the first field that fails is named
            raise _located(converter, kind, value) or explained(error) from error

    return dump


def _located(converter: cattrs.Converter, kind: Any, value: Any) -> Mismatch | None:
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        try:
            with _step(f".{name}"):
                converter.get_unstructure_hook(hint)(getattr(value, name))
        except Mismatch as error:
            return error
    return None


def _dumper(converter: cattrs.Converter, annotation: Any) -> Dump:
    """Looked up at the first use: a class may contain itself."""
    found: list[Dump] = []

    def dump(value: Any) -> Any:
        if not found:
            found.append(converter.get_unstructure_hook(annotation))
        return found[0](value)

    return dump


def _loader(converter: cattrs.Converter, annotation: Any) -> Callable[[Any], Any]:
    found: list[Load] = []

    def load(value: Any) -> Any:
        if not found:
            found.append(converter.get_structure_hook(annotation))
        return found[0](value, annotation)

    return load


def _is_enum(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Enum)


def _is_path(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, PurePath)


class _Strict(cattrs.Converter):
    """cattrs with these hooks before its own: its dispatch would take an IntEnum for an int."""

    def __init__(self) -> None:
        super().__init__(forbid_extra_keys=True, detailed_validation=True)
        for kind, (dump, load) in _SCALARS.items():
            _register_scalar(self, kind, dump, load)

        def class_dump(annotation: Any) -> Dump:
            return _class_dump(self, annotation)

        self.register_unstructure_hook_factory(_is_class, class_dump)

    def get_unstructure_hook(self, type: Any, cache_result: bool = True) -> Dump:
        strict = self._strict_hooks(type)
        return super().get_unstructure_hook(type, cache_result) if strict is None else strict[0]

    def get_structure_hook(self, type: Any, cache_result: bool = True) -> Load:
        strict = self._strict_hooks(type)
        return super().get_structure_hook(type, cache_result) if strict is None else strict[1]

    def _strict_hooks(self, annotation: Any) -> Hooks | None:
        annotation = bare(annotation)
        if plain_check(annotation) is not None:
            return _plain_hooks(annotation)
        if _is_enum(annotation):
            return _enum_hooks(annotation)
        if _is_path(annotation):
            return _path_hooks(annotation)
        if container_of(annotation)[0] is not None:
            return _container_hooks(self, annotation)
        if typing.get_origin(annotation) in UNIONS:
            return _union_hooks(self, annotation)
        return None


CONVERTER: Final = _Strict()


def hooks_of(annotation: Any) -> tuple[Dump, Callable[[Any], Any]]:
    """What takes a value of this annotation apart into plain data, and what puts it together again."""
    return _dumper(CONVERTER, annotation), _loader(CONVERTER, annotation)


def explained(error: BaseException) -> Mismatch:
    """The first thing that is wrong, with its path; cattrs reports groups of everything."""
    if isinstance(error, Mismatch):
        return error
    if isinstance(error, ClassValidationError):
        noted, others = error.group_exceptions()
        for inner, note in noted:
            return explained(inner).within(f".{note.name}")
        for inner in others:
            return explained(inner)
    if isinstance(error, ForbiddenExtraKeysError):
        return Mismatch(f"{error.cl.__name__} has no field {', '.join(sorted(map(repr, error.extra_fields)))[:100]}")
    if isinstance(error, KeyError):
        return Mismatch("it is missing")
    return Mismatch(f"{type(error).__name__}: {_message(error)}")


def _message(error: BaseException) -> str:
    try:
        return str(error)[:200]
    except Exception as broken:  # noqa: BLE001 - a user's exception that cannot be shown is still a refusal
        return f"<__str__ raised {type(broken).__name__}>"
