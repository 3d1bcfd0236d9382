"""Frames between a worker and its children: a JSON head and raw bytes, each with its length in front.

A frame is `>II` (bytes of head, bytes of body), the head as a JSON object in UTF-8, the body as it is: payloads and
results are bytes already and are not wrapped in text. Both lengths are bounded and checked before anything is read,
so that a broken peer cannot make this side take memory that it only claims to need. Nothing here does I/O.
"""

from __future__ import annotations

import json
import struct
from typing import Any, Final, TypeAlias, cast

from attrs import frozen

Head: TypeAlias = dict[str, Any]

PREFIX: Final = struct.Struct(">II")
HEAD_BYTES_MAX: Final = 1 << 18
BODY_BYTES_MAX: Final = 64 << 20  # of the channel; the limits of payloads and results are the codecs' and lower


class BadFrame(Exception):
    """The other side broke the protocol; the channel cannot be used any more."""


@frozen
class Frame:
    head: Head
    body: bytes = b""


def pack(head: Head, body: bytes = b"", body_bytes_max: int = BODY_BYTES_MAX) -> bytes:
    """Return the frame as bytes. Raises BadFrame when it breaks a bound."""
    text = json.dumps(head, separators=(",", ":")).encode()
    if len(text) > HEAD_BYTES_MAX or len(body) > body_bytes_max:
        raise BadFrame(f"a frame of {len(text):,} + {len(body):,} bytes is over the limit of {body_bytes_max:,}")
    return PREFIX.pack(len(text), len(body)) + text + body


def lengths(prefix: bytes | bytearray, body_bytes_max: int = BODY_BYTES_MAX) -> tuple[int, int]:
    """Return how many bytes of head and body follow. Raises BadFrame when they claim to be more than allowed."""
    head, body = PREFIX.unpack_from(prefix)
    if head > HEAD_BYTES_MAX or body > body_bytes_max:
        raise BadFrame(f"a frame that claims {head:,} + {body:,} bytes is over the limit of {body_bytes_max:,}")
    return head, body


def unpack_head(text: bytes | bytearray) -> Head:
    """Raises BadFrame when it is not a JSON object."""
    try:
        head = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadFrame(f"the head of a frame is not JSON: {error}") from error
    if not isinstance(head, dict):
        raise BadFrame("the head of a frame is not a JSON object")
    return cast("Head", head)


class FrameReader:
    """Frames out of a stream of bytes that arrive in pieces of any size."""

    def __init__(self, body_bytes_max: int = BODY_BYTES_MAX) -> None:
        self._bytes = bytearray()
        self._body_bytes_max = body_bytes_max

    def feed(self, data: bytes) -> None:
        self._bytes += data

    def take(self) -> Frame | None:
        """Return the next whole frame, or None until more bytes have come. Raises BadFrame."""
        have = len(self._bytes)
        if have < PREFIX.size:
            return None
        head, body = lengths(self._bytes, self._body_bytes_max)
        end = PREFIX.size + head + body
        if have < end:
            return None
        middle = PREFIX.size + head
        frame = Frame(unpack_head(self._bytes[PREFIX.size : middle]), bytes(self._bytes[middle:end]))
        del self._bytes[:end]
        return frame
