"""A whole row as scripts answer it, as a value of the core. What the fields are stands in rows.lua."""

from __future__ import annotations

import json
from typing import Any, Final

from taskweave.core.ids import JobId, Micros
from taskweave.core.job import Attempt, End, Failure, Hold, Job, Life, Settled, State, Verb
from taskweave.stores._redis.kinds import spec_of
from taskweave.stores.documents import failure_document, failure_of, progress_of

STATES: Final[tuple[State, ...]] = (
    State.SCHEDULED,
    State.READY,
    State.RUNNING,
    State.SUCCEEDED,
    State.FAILED,
    State.CANCELLED,
    State.EXPIRED,
    State.LOST,
)
SEQ_WIDTH: Final = 14  # of the fixed-width seq in a tag
NUMBER: Final = {state: number for number, state in enumerate(STATES)}


def raw(text: str) -> bytes:
    """Any text as bytes, lone surrogates included: an error's words may hold them."""
    return text.encode("utf-8", "surrogatepass")


def text_of(value: bytes) -> str:
    return value.decode("utf-8", "surrogatepass")


def maybe_text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "surrogatepass")


def document(value: object) -> bytes:
    """Compact JSON in ASCII: its escapes carry what UTF-8 cannot."""
    return json.dumps(value, separators=(",", ":")).encode()


def failure_text(failure: Failure | None) -> bytes | None:
    return None if failure is None else document(failure_document(failure))


def job_of(answer: list[Any]) -> Job:
    """The job of an answered row: its id, its fields, and the end of its lease."""
    id, flat, lease_until = answer
    fields: dict[bytes, bytes] = dict(zip(flat[::2], flat[1::2], strict=True))
    spec = spec_of(text_of(id), fields[b"k"], fields[b"p"])
    dates = fields[b"t"]
    due, *others = dates[SEQ_WIDTH:].split(b" ")
    created, expires = others or (due, b"")
    number, _, fence, attempt, lost, unfit, run_at = map(int, fields[b"l"].split(b" "))
    state = STATES[number]
    settled = fields.get(b"z")
    life = Life(
        state,
        run_at,
        attempt,
        fence,
        lost,
        unfit,
        _hold(fields, lease_until) if state is State.RUNNING else None,
        None if settled is None else _settled(settled),
        history_of(fields.get(b"x", b"")),
        _end(fields),
    )
    return Job(spec, int(dates[:SEQ_WIDTH]), int(created), int(due), int(expires) if expires else None, life)


def _settled(text: bytes) -> Settled:
    fence, digest = text.split(b" ")
    return Settled(int(fence), int(digest, 16))


def _hold(fields: dict[bytes, bytes], lease_until: bytes | None) -> Hold:
    started, length, rest = fields[b"h"].split(b" ", 2)
    claim, member = rest[: int(length)], rest[int(length) :]
    progress = fields.get(b"g")
    return Hold(
        text_of(member),
        text_of(claim),
        0 if lease_until is None else int(lease_until),
        int(started),
        None if progress is None else progress_of(json.loads(progress)),
        maybe_text(fields.get(b"y")),
    )


def _end(fields: dict[bytes, bytes]) -> End | None:
    times = fields.get(b"e")
    if times is None:
        return None
    finished, started = times.split(b" ")
    problem = fields.get(b"w")
    return End(
        int(finished),
        int(started) if started else None,
        fields.get(b"r"),
        maybe_text(fields.get(b"d")),
        maybe_text(fields.get(b"u")),
        maybe_text(fields.get(b"o")),
        None if problem is None else failure_of(json.loads(problem)),
    )


def packed(*values: bytes | None) -> bytes:
    """Several texts as one, as packed() in lives.lua makes it: '3:abc', or '-' for nothing."""
    return b"".join([b"-" if value is None else b"%d:%b" % (len(value), value) for value in values])


def unpacked(text: bytes) -> list[bytes | None]:
    """The texts that packed() put into one."""
    values: list[bytes | None] = []
    at = 0
    while at < len(text):
        if text[at : at + 1] == b"-":
            values.append(None)
            at += 1
            continue
        colon = text.index(b":", at)
        after = colon + 1 + int(text[at:colon])
        values.append(text[colon + 1 : after])
        at = after
    return values


def history_of(text: bytes) -> tuple[Attempt, ...]:
    return tuple([_attempt(entry) for entry in unpacked(text) if entry is not None])


def _attempt(entry: bytes) -> Attempt:
    verb, attempt, fence, member, started, ended, problem, reason = unpacked(entry)
    return Attempt(
        Verb((verb or b"").decode()),
        int(attempt or 0),
        int(fence or 0),
        text_of(member or b""),
        int(started or 0),
        int(ended or 0),
        None if problem is None else failure_of(json.loads(problem)),
        maybe_text(reason),
    )


def times(pairs: list[bytes]) -> dict[str, Micros]:
    """A flat list of names and numbers."""
    return {text_of(name): int(number) for name, number in zip(pairs[::2], pairs[1::2], strict=True)}


def ids_by_key(pairs: list[bytes]) -> dict[str, JobId]:
    return {text_of(key): text_of(id) for key, id in zip(pairs[::2], pairs[1::2], strict=True)}
