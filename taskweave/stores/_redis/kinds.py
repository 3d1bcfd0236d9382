"""What of a spec all jobs of one kind share, as one text that scripts can read: lines, the common ones empty.

Queue, task, and what steps depend on each have a line; names and keys are printable, so none holds a line's end. The
rest, which no step looks at, is the document of stores.documents in the last line. Jobs of one task have few kinds,
so both directions are cached, and a script parses a kind once for all jobs of a batch.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from attrs import frozen

from taskweave.core.ids import JobId
from taskweave.core.job import Spec
from taskweave.core.unique import UniqueKey
from taskweave.stores.documents import PLAIN, REST_FIELDS, SpecRest, rest_of, spec_rest, spec_text

TAG_EDGE, TAG_MIDDLE = "\x1f", "\x1e"
_PLACE: Final = {name: place for place, name in enumerate(REST_FIELDS)}
_NUMBERS: Final = (
    "priority",
    "max_attempts",
    "max_lost",
    "at_most_once",
    "result_ttl_us",
    "retention_us",
    "retention_failed_us",
)
_LINES: Final = (*_NUMBERS, "unique", "tags")  # fields that stand in lines of their own
_TILL: Final = {"finished": "f", "started": "s", None: ""}
_UNTIL: Final[dict[str, Any]] = {letter: until for until, letter in _TILL.items()}


@frozen
class Kind:
    """A kind as the scripts take it: its text, and what resolves to instants of store time there."""

    text: bytes
    due: bytes  # a delay, or @ and an instant
    expires: bytes
    on_conflict: bytes


def kind_of(spec: Spec) -> Kind:
    return _kind(spec.queue, spec.task, rest_of(spec))


def tag_text(key: str, value: str) -> str:
    """A tag as it stands in a kind; found there by its text, since neither part can hold an edge."""
    return f"{TAG_EDGE}{key}{TAG_MIDDLE}{value}{TAG_EDGE}"


@lru_cache(maxsize=4_096)
def _kind(queue: str, task: str, rest: SpecRest) -> Kind:
    def value(name: str) -> Any:
        return rest[_PLACE[name]]

    unique: UniqueKey | None = value("unique")
    lines = [queue, task]
    lines += ["" if value(name) == PLAIN[_PLACE[name]] else str(int(value(name))) for name in _NUMBERS]
    if unique is None:
        lines += ["", "", ""]
    else:
        lines += [_TILL[unique.until], "" if unique.within_us is None else str(unique.within_us), unique.key]
    lines.append("".join([tag_text(*tag) for tag in value("tags")]))
    left = list(rest)
    for name in _LINES:
        left[_PLACE[name]] = PLAIN[_PLACE[name]]
    lines.append(_with_conflict(spec_text(tuple(left)) or "", unique))
    at, expires = value("at"), value("expires_in_us")
    return Kind(
        "\n".join(lines).encode(),
        b"@%d" % at if at is not None else b"%d" % value("delay_us"),
        b"" if expires is None else b"%d" % expires,
        b"" if unique is None else unique.on_conflict.encode(),
    )


def _with_conflict(document: str, unique: UniqueKey | None) -> str:
    """What to do on a conflict is of no use to a script later on: it goes in front of the last line."""
    return f"{'' if unique is None else unique.on_conflict};{document}"


@lru_cache(maxsize=4_096)
def kind_parts(text: bytes) -> tuple[str, str, SpecRest]:
    """Queue, task, and the fields of a Spec after its payload."""
    queue, task, *numbers, till, within, key, tags, last = text.decode().split("\n")
    on_conflict, _, document = last.partition(";")
    rest = list(spec_rest(document or None))
    for name, number in zip(_NUMBERS, numbers, strict=True):
        if number:
            rest[_PLACE[name]] = bool(int(number)) if name == "at_most_once" else int(number)
    if key:
        made: Any = on_conflict
        rest[_PLACE["unique"]] = UniqueKey(key, _UNTIL[till], int(within) if within else None, made)
    if tags:
        pairs = [tag.split(TAG_MIDDLE) for tag in tags[1:-1].split(TAG_EDGE * 2)]
        rest[_PLACE["tags"]] = tuple([(name, value) for name, value in pairs])
    return queue, task, tuple(rest)


def spec_of(id: JobId, kind: bytes, payload: bytes) -> Spec:
    queue, task, rest = kind_parts(kind)
    return Spec(id, task, queue, payload, *rest)
