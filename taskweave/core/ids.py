"""The scalar words of the core: identities, instants, fences, durations.

Time is whole microseconds everywhere below the public edge: integers compare exactly, add exactly, and replay
exactly. Floats and datetimes never enter. A duration that users write ("30s", 1.5, timedelta) is turned into
microseconds once, here.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final, TypeAlias

from taskweave.exceptions import InvalidValue

JobId: TypeAlias = str  # a UUIDv7 in its canonical text form, made by the client before sending
Micros: TypeAlias = int  # an instant or a span, in microseconds
Fence: TypeAlias = int  # +1 at every claim and at every exit from running to a state that is not terminal
Duration: TypeAlias = timedelta | float | str

MILLISECOND: Final[Micros] = 1_000
SECOND: Final[Micros] = 1_000_000
MINUTE: Final[Micros] = 60 * SECOND
HOUR: Final[Micros] = 60 * MINUTE
DAY: Final[Micros] = 24 * HOUR
SPAN_MAX_US: Final[Micros] = 3_660 * DAY  # ten years: beyond it a delay is a mistake, not a wish

_UNITS: Final = {"us": 1, "ms": MILLISECOND, "s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY}
_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(us|ms|s|m|h|d|w)")
_SPAN: Final = re.compile(rf"(?:{_PART.pattern})+")


def span_us(value: Duration, field: str, *, least: Micros = 0) -> Micros:
    """Return the span in whole microseconds, between `least` and ten years, or refuse it naming `field`.

    Accepts a timedelta, a number of seconds, or text of numbers with units: "30s", "1h30m", "250ms".
    Raises InvalidValue.
    """
    wanted = "a timedelta, a number of seconds, or text such as '30s', '1h30m', '250ms'"
    if isinstance(value, timedelta):
        micros = value // timedelta(microseconds=1)
    elif isinstance(value, str):
        if len(value) > 64 or not _SPAN.fullmatch(value):
            raise InvalidValue(field, value, wanted)
        micros = round(sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(value)))
    elif isinstance(value, int | float) and not isinstance(value, bool) and value == value:
        micros = round(min(value, 1e12) * SECOND) if value >= 0 else -1  # not 0, however little is missing
    else:
        raise InvalidValue(field, value, wanted)
    if not least <= micros <= SPAN_MAX_US:
        raise InvalidValue(field, value, f"between {least / SECOND:g} s and ten years")
    return micros


def uuid7(wall: Micros, random_bits: int) -> JobId:
    """Return a UUIDv7 for this wall clock instant and at least 74 random bits.

    Source: RFC 9562, section 5.7. The low 12 bits of the time part carry microseconds (method 3), so that ids made
    by one process sort by creation within a millisecond too.
    """
    milliseconds, micros = divmod(wall, 1_000)
    time = (milliseconds & 0xFFFF_FFFF_FFFF) << 80 | (micros << 2 | random_bits & 3) << 64
    tail = random_bits >> 2 & 0x3FFF_FFFF_FFFF_FFFF
    text = "%032x" % (time | tail | 0x7000_8000_0000_0000_0000)  # version 7, variant 2
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
