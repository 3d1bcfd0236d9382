"""A finding of the doctor: what was looked at, how bad it is, and what to do."""

from __future__ import annotations

from typing import Literal, TypeAlias

from attrs import frozen

Level: TypeAlias = Literal["ok", "warning", "problem"]


@frozen
class Finding:
    check: str
    level: Level
    text: str
    remedy: str = ""
