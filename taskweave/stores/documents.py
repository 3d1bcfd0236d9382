"""The two JSON documents of a job in stores that keep rows: what of its spec and of its life differs from defaults.

A plain job has NULL in both, and pays nothing for the features it does not use. Jobs of one task share the rest of
their specs, so texts and values are kept in bounded caches and neither encoding nor decoding is paid per job.
A key that is absent means the default that it had when the row was written, so a default of Spec may only change
together with a migration. Texts are ASCII: JSON escapes carry what UTF-8 cannot (lone surrogates in an error).
"""

from __future__ import annotations

import json
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final

from attrs import astuple, fields

from taskweave.core.job import Attempt, Failure, Progress, Spec, Verb
from taskweave.core.unique import UniqueKey

SpecRest = tuple[Any, ...]

_OWN_COLUMNS: Final = 4  # id, task, queue, payload: the first fields of Spec, each with a column
REST_FIELDS: Final = tuple(field.name for field in fields(Spec))[_OWN_COLUMNS:]
rest_of = attrgetter(*REST_FIELDS)  # all other fields of a Spec, as a tuple in their order
PLAIN: Final[SpecRest] = tuple(field.default for field in fields(Spec))[_OWN_COLUMNS:]
_UNIQUE: Final = REST_FIELDS.index("unique")
_TAGS: Final = REST_FIELDS.index("tags")


def _dumps(document: object) -> str:
    return json.dumps(document, separators=(",", ":"))


@lru_cache(maxsize=4_096)
def spec_text(rest: SpecRest) -> str | None:
    """The document for these fields; None for a plain job."""
    document: dict[str, Any] = {}
    for name, value, default in zip(REST_FIELDS, rest, PLAIN, strict=True):
        if value != default:
            document[name] = astuple(value) if isinstance(value, UniqueKey) else value
    return _dumps(document) if document else None


@lru_cache(maxsize=4_096)
def spec_rest(text: str | None) -> SpecRest:
    """The fields of a Spec after its first four."""
    if text is None:
        return PLAIN
    document = json.loads(text)
    rest = [document.get(name, default) for name, default in zip(REST_FIELDS, PLAIN, strict=True)]
    if rest[_UNIQUE] is not None:
        rest[_UNIQUE] = UniqueKey(*rest[_UNIQUE])
    rest[_TAGS] = tuple([(key, value) for key, value in rest[_TAGS]])
    return tuple(rest)


def life_text(document: dict[str, Any]) -> str | None:
    """The document of what is not None, not 0 and not empty in it."""
    document = {key: value for key, value in document.items() if value is not None and value != 0 and value != ()}
    return _dumps(document) if document else None


def life_document(text: str | None) -> dict[str, Any]:
    return {} if text is None else json.loads(text)


def failure_document(failure: Failure | None) -> tuple[Any, ...] | None:
    return None if failure is None else (failure.type, failure.message, failure.traceback, failure.kinds)


def failure_of(document: list[Any] | None) -> Failure | None:
    if document is None:
        return None
    type_, message, traceback, kinds = document
    return Failure(type_, message, traceback, tuple(kinds))


def history_document(history: tuple[Attempt, ...]) -> tuple[Any, ...]:
    return tuple(
        [
            (
                entry.verb,
                entry.attempt,
                entry.fence,
                entry.member,
                entry.started_at,
                entry.ended_at,
                failure_document(entry.error),
                entry.reason,
            )
            for entry in history
        ]
    )


def history_of(document: list[list[Any]] | None) -> tuple[Attempt, ...]:
    if not document:
        return ()
    return tuple(
        [
            Attempt(Verb(verb), attempt, fence, member, started_at, ended_at, failure_of(error), reason)
            for verb, attempt, fence, member, started_at, ended_at, error, reason in document
        ]
    )


def progress_document(progress: Progress | None) -> tuple[Any, ...] | None:
    return None if progress is None else (progress.done, progress.total, progress.note)


def progress_of(document: list[Any] | None) -> Progress | None:
    return None if document is None else Progress(*document)
