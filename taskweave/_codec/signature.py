"""One task's codec, made once from its signature: arguments and results to bytes and back, checked on both sides.

A payload is the JSON document `[args, kwargs]` as the call was written: positional arguments stay positional, so that
a parameter can be renamed while jobs wait; defaults are not stored, so that the task's own apply when it runs.

Arguments are bound and checked against the signature and its types before anything is stored, and again when a
worker reads them: the producer may have been another program, or an older one. A payload of a newer version than
this task's is refused unread, for a worker that knows it.

The fast path is a call whose positional arguments have exactly the primitive types of its parameters: one comparison
of two tuples of types, then the encoder.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from attrs import field, frozen

from taskweave._codec import wire
from taskweave._codec.plain import Check, Mismatch, check_any, plain_check
from taskweave.core.bounds import PAYLOAD_BYTES_MAX, RESULT_BYTES_MAX
from taskweave.exceptions import DecodeError, InvalidArguments, NotSerializable, PayloadTooLarge, ResultTooLarge

_EXACT: Final = (str, int, bool)  # float is none of them: its NaN has to be looked at
_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_NAMED: Final = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Shape:
    """How values of one annotation become plain data and back. The converter is imported at the first need."""

    __slots__ = ("annotation", "check", "hooks")

    def __init__(self, annotation: Any) -> None:
        self.annotation = annotation
        self.check: Check | None = plain_check(annotation)
        self.hooks: tuple[Callable[[Any], Any], Callable[[Any], Any]] | None = None

    def dump(self, value: Any) -> Any:
        """Raises Mismatch."""
        if self.check is not None:
            return self._checked(value)
        return self._converted(0, value)

    def load(self, value: Any) -> Any:
        """Raises Mismatch."""
        if self.check is not None:
            return self._checked(value)
        return self._converted(1, value)

    def _checked(self, value: Any) -> Any:
        assert self.check is not None
        try:
            self.check(value)
        except RecursionError:
            raise Mismatch(f"it is nested more than {wire.DEPTH_MAX} deep, or contains itself") from None
        return value

    def _converted(self, direction: int, value: Any) -> Any:
        from taskweave._codec import converter

        if self.hooks is None:
            self.hooks = converter.hooks_of(self.annotation)
        try:
            return self.hooks[direction](value)
        except Exception as error:  # users' properties, constructors and validators raise what they like
            raise converter.explained(error) from error


@frozen
class Slot:
    """One parameter: `kind` as in inspect."""

    name: str
    kind: Any
    shape: Shape = field(eq=False)
    required: bool
    default: Any = None


@frozen
class Bound:
    """Arguments matched with their parameters; `args` and `kwargs` keep the form of the call."""

    args: tuple[tuple[str, Slot, Any], ...]  # (path, parameter, value)
    kwargs: tuple[tuple[str, Slot, Any], ...]


class SignatureCodec:
    """The codec of one task; `slots` are its parameters without the one that receives the Ctx."""

    def __init__(
        self,
        task: str,
        slots: tuple[Slot, ...],
        returns: Any,
        *,
        version: int = 1,
        payload_bytes_max: int = PAYLOAD_BYTES_MAX,
        result_bytes_max: int = RESULT_BYTES_MAX,
    ) -> None:
        self.task, self.slots, self.version = task, slots, version
        self._payload_bytes_max, self._result_bytes_max = payload_bytes_max, result_bytes_max
        self._result = Shape(returns)
        self._positional = [slot for slot in slots if slot.kind in _POSITIONAL]
        self._named = {slot.name: slot for slot in slots if slot.kind in _NAMED}
        self._rest = next((slot for slot in slots if slot.kind is inspect.Parameter.VAR_POSITIONAL), None)
        self._extra = next((slot for slot in slots if slot.kind is inspect.Parameter.VAR_KEYWORD), None)
        self._exact = _exact_types(slots)

    # --- arguments ---

    def encode(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """Return the payload. Raises InvalidArguments, NotSerializable, PayloadTooLarge."""
        if kwargs or tuple(map(type, args)) != self._exact:
            document: list[Any] = list(self._dumped(args, kwargs))
        else:
            document = [args, kwargs]
        try:
            payload = wire.write(document)
        except wire.Unwritable as error:
            raise self._unwritable(args, kwargs, error) from error
        if len(payload) > self._payload_bytes_max:
            raise PayloadTooLarge(self.task, len(payload), self._payload_bytes_max)
        return payload

    def decode(self, payload: bytes, codec: str, version: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of a call, for any bytes, or raise DecodeError."""
        if codec != wire.CODEC:
            raise DecodeError("codec", f"{codec!r} is not known here")
        if version > self.version:
            raise DecodeError("version", f"it is {version}, and this worker's {self.task} is at {self.version}")
        if len(payload) > self._payload_bytes_max:
            raise DecodeError("payload", f"it has {len(payload):,} bytes; the limit is {self._payload_bytes_max:,}")
        return self._loaded(*wire.arguments(payload))

    def values(self, args: tuple[Any, ...], kwargs: dict[str, Any], by: tuple[str, ...] | None) -> dict[str, Any]:
        """Return the arguments that `by` names (None: all of them) as plain data, by parameter: what a key is made of.

        An argument that was not given counts as its default. Raises InvalidArguments, NotSerializable.
        """
        values: dict[str, Any] = {slot.name: slot.default for slot in self.slots if not slot.required}
        bound = self.bind(args, kwargs)
        for path, slot, value in (*bound.args, *bound.kwargs):
            values[path if slot.name not in self._named and slot.kind not in _POSITIONAL else slot.name] = value
        shapes = {slot.name: slot.shape for slot in self.slots}
        chosen = values if by is None else by
        return {name: self._dump(name, shapes.get(name) or self._loose(name).shape, values[name]) for name in chosen}

    # --- results ---

    def encode_result(self, value: Any) -> bytes:
        """Return the result's document. Raises NotSerializable, and ResultTooLarge, which is one."""
        try:
            document = wire.write(self._result.dump(value))
        except Mismatch as error:
            raise NotSerializable(self.task, f"result{error.path}", error.problem) from error
        except wire.Unwritable as error:
            raise NotSerializable(self.task, "result", str(error)) from error
        if len(document) > self._result_bytes_max:
            raise ResultTooLarge(self.task, "result", "it is too large", len(document), self._result_bytes_max)
        return document

    def decode_result(self, result: bytes) -> Any:
        """Return the value of any bytes, or raise DecodeError."""
        value = wire.read(result, "result")
        try:
            return self._result.load(value)
        except Mismatch as error:
            raise DecodeError(f"result{error.path}", error.problem) from error

    # --- binding ---

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Bound:
        """Match arguments with parameters as Python would. Raises InvalidArguments naming the parameter."""
        positional = list(self._bind_positional(args))
        taken = {slot.name for _, slot, _ in positional if slot.kind in _POSITIONAL}
        named = list(self._bind_named(kwargs, taken))
        given = taken | {slot.name for _, slot, _ in named}
        for slot in self.slots:
            if slot.required and slot.name not in given:
                raise InvalidArguments(self.task, slot.name, "it is missing")
        return Bound(tuple(positional), tuple(named))

    def _bind_positional(self, args: tuple[Any, ...]) -> Iterator[tuple[str, Slot, Any]]:
        most = len(self._positional)
        for index, value in enumerate(args):
            if index < most:
                slot = self._positional[index]
                yield slot.name, slot, value
            elif self._rest is not None:
                yield f"{self._rest.name}[{index - most}]", self._rest, value
            else:
                raise InvalidArguments(
                    self.task, f"argument {index + 1}", f"it takes {most} positional arguments, got {len(args)}"
                )

    def _bind_named(self, kwargs: Mapping[str, Any], taken: set[str]) -> Iterator[tuple[str, Slot, Any]]:
        for name, value in kwargs.items():
            slot = self._named.get(name)
            if slot is not None and name in taken:
                raise InvalidArguments(self.task, name, "it is given twice, by position and by name")
            if slot is None:
                slot = self._extra
            if slot is None:
                raise InvalidArguments(self.task, name, self._unexpected(name))
            yield name, slot, value

    def _unexpected(self, name: str) -> str:
        from difflib import get_close_matches

        near = get_close_matches(name, self._named, 1)
        return f"there is no such parameter; did you mean {near[0]!r}?" if near else "there is no such parameter"

    def _dumped(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        bound = self.bind(args, kwargs)
        plain = [self._dump(path, slot.shape, value) for path, slot, value in bound.args]
        return plain, {path: self._dump(path, slot.shape, value) for path, slot, value in bound.kwargs}

    def _dump(self, path: str, shape: Shape, value: Any) -> Any:
        try:
            return shape.dump(value)
        except Mismatch as error:
            if shape.check is check_any:  # no type was promised, so none is broken: it just cannot be stored
                raise NotSerializable(self.task, path + error.path, error.problem) from error
            raise InvalidArguments(self.task, path + error.path, error.problem) from error

    def _loaded(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if not kwargs and tuple(map(type, args)) == self._exact:
            return args, kwargs
        path = ""
        try:
            bound = self.bind(args, kwargs)
            loaded: list[Any] = []
            for name, slot, value in (*bound.args, *bound.kwargs):
                path = name
                loaded.append(slot.shape.load(value))
        except InvalidArguments as error:
            raise DecodeError(error.field, error.problem) from error
        except Mismatch as error:
            raise DecodeError(path + error.path, error.problem) from error
        count = len(bound.args)
        return tuple(loaded[:count]), dict(zip((name for name, _, _ in bound.kwargs), loaded[count:], strict=True))

    def _unwritable(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], problem: wire.Unwritable
    ) -> NotSerializable | InvalidArguments:
        """Name the argument that has no document: each is tried alone, which only a refused call pays for."""
        bound = self.bind(args, kwargs)
        for path, slot, value in (*bound.args, *bound.kwargs):
            try:
                wire.write(slot.shape.dump(value))
            except wire.Unwritable as error:
                return NotSerializable(self.task, path, str(error))
            except Mismatch as error:
                return InvalidArguments(self.task, path + error.path, error.problem)
        return NotSerializable(self.task, "arguments", str(problem))

    def _loose(self, name: str) -> Slot:
        slot = self._rest if "[" in name else self._extra
        assert slot is not None
        return slot


def _exact_types(slots: tuple[Slot, ...]) -> tuple[type, ...] | None:
    """The types of the arguments of the fast path, or None when the signature has none."""
    kinds = [slot.shape.annotation for slot in slots]
    if all(slot.kind in _POSITIONAL for slot in slots) and all(kind in _EXACT for kind in kinds):
        return tuple(kinds)
    return None
