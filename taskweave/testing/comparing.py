"""What two stores must have in common, and the first place where they have not.

Compared is everything that the semantics fix. Left open, and made equal here before anything is compared:
  order of a repeated claim   the jobs that run under a claim_id are a set
  order of cancel requests    likewise
  values of seq               may have gaps; their order is compared, and a cursor is each store's own
An InvalidInput is compared with its words, since it says what the caller did wrong; of other errors the class is.
"""

from __future__ import annotations

from typing import Any, Final

from attrs import evolve, fields, frozen, has

from taskweave.core.job import Job
from taskweave.core.verbs import Dump, Exchanged, Exported, Found, Renewed
from taskweave.exceptions import InvalidInput, TaskweaveError

_SHOWN: Final = 200  # characters of a value in a message


class Disagreement(AssertionError):
    """A store answered, or holds, something else than the queue machine says."""


@frozen
class Refused:
    """An op that was refused, as something to compare."""

    error: str
    words: str = ""


def refusal_of(error: TaskweaveError) -> Refused:
    return Refused(type(error).__name__, str(error) if isinstance(error, InvalidInput) else "")


def comparable(answer: Any, *, repeat: bool = False) -> Any:
    """The answer with what is left open made equal. `repeat`: it answers a claim_id that was there already.

    Raises Disagreement for an order that no store may answer with.
    """
    match answer:
        case Exchanged():
            claimed = _by_id(answer.claimed) if repeat else answer.claimed
            return evolve(answer, claimed=claimed, cancels=_by_id(answer.cancels))
        case Renewed():
            return evolve(answer, cancels=_by_id(answer.cancels))
        case Found():
            seqs = [job.seq for job in answer.jobs]
            if seqs != sorted(set(seqs), reverse=True):
                raise Disagreement(f"find answers jobs that are not newest first: seqs {seqs}")
            return evolve(answer, jobs=_unplaced(answer.jobs), next=None if answer.next is None else 0)
        case Dump():
            seqs = [job.seq for job in answer.jobs]
            if seqs != sorted(set(seqs)):
                raise Disagreement(f"dump has jobs that are not ascending by seq: {seqs}")
            return evolve(answer, jobs=_unplaced(answer.jobs))
        case Exported():
            seqs = [job.seq for job in answer.jobs]
            if seqs != sorted(set(seqs)):
                raise Disagreement(f"export answers jobs that are not ascending by seq: {seqs}")
            return evolve(answer, jobs=_unplaced(answer.jobs), next=None if answer.next is None else 0)
        case tuple():
            return _unplaced(_values(answer))
        case _:
            return answer


def _by_id(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(sorted(values, key=lambda value: value.id))


def _values(answer: Any) -> tuple[Any, ...]:
    return tuple(answer)


def _unplaced(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple([evolve(each, seq=0) if isinstance(each, Job) else each for each in values])


def difference(expected: Any, found: Any, path: str = "") -> str | None:
    """Where two values differ first, and how; None where they are equal."""
    if type(expected) is type(found) and expected == found:
        return None
    if type(expected) is not type(found):
        return f"{path or 'answer'} is {_shown(found)}, must be {_shown(expected)}"
    if isinstance(expected, tuple):
        return _of_sequences(_values(expected), _values(found), path)
    kind: type[Any] = type(expected)  # pyright: ignore[reportUnknownVariableType] - of anything
    if has(kind):
        for each in fields(kind):
            deeper = f"{path}.{each.name}" if path else each.name
            inside = difference(getattr(expected, each.name), getattr(found, each.name), deeper)
            if inside is not None:
                return inside
    return f"{path or 'answer'} is {_shown(found)}, must be {_shown(expected)}"


def _of_sequences(expected: tuple[Any, ...], found: tuple[Any, ...], path: str) -> str:
    for index, (wanted, got) in enumerate(zip(expected, found, strict=False)):
        id = getattr(wanted, "id", None)
        inside = difference(wanted, got, f"{path}[{index if id is None else id}]")
        if inside is not None:
            return inside
    return f"{path or 'answer'} has {len(found)} values, must have {len(expected)}"


def _shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
