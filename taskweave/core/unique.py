"""Uniqueness: at most one job with a key in its scope, decided by the store in the commit of the enqueue.

Three exclusive scopes: until the job is finished (default); until it is first started, never retaken by a retry;
within a span from its enqueue, whatever its state. The key is (task, values): the queue is no part of it.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from attrs import frozen

from taskweave.core.ids import Micros

OnConflict: TypeAlias = Literal["return", "replace", "raise"]


@frozen
class UniqueKey:
    """A key with its scope, as stored on the row: `within_us` excludes `until`."""

    key: str
    until: Literal["finished", "started"] | None = "finished"
    within_us: Micros | None = None
    on_conflict: OnConflict = "return"
