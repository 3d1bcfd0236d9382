"""The Lua of the store: one file for each verb, put together with the parts that it needs.

A script runs alone on the server, so a verb is atomic; but one that fails midway keeps what it wrote. So each reads and
checks everything that can be refused before its first write, and the client checks what only the op holds before it
sends. Parts are text: a rule stands in one of them and is concatenated in front of the verbs that use it, because
Redis 6.2 has no libraries. What the core knows (bounds, defaults) is handed over as constants, not written again.
"""

from __future__ import annotations

from hashlib import sha1
from pathlib import Path
from typing import Any, Final

from attrs import fields, frozen

from taskweave.core import life
from taskweave.core.job import Spec
from taskweave.core.queue.exchange import PROMOTED_MAX, SKIPPED_MAX

FOLDER: Final = Path(__file__).parent

_DEFAULTS: Final[dict[str, Any]] = {field.name: field.default for field in fields(Spec)}
CONSTANTS: Final[dict[str, int]] = {
    "HISTORY_MAX": life.HISTORY_MAX,
    "UNFIT_MAX": life.UNFIT_MAX,
    "GAP_LEASES": life.GAP_LEASES,
    "GAP_MIN_US": life.GAP_MIN_US,
    "FLOOR_STEP_US": life.FLOOR_STEP_US,
    "PROMOTED_MAX": PROMOTED_MAX,
    "SKIPPED_MAX": SKIPPED_MAX,
    "PRIORITY": _DEFAULTS["priority"],
    "MAX_ATTEMPTS": _DEFAULTS["max_attempts"],
    "MAX_LOST": _DEFAULTS["max_lost"],
    "RESULT_TTL": _DEFAULTS["result_ttl_us"],
    "RETENTION": _DEFAULTS["retention_us"],
    "RETENTION_FAILED": _DEFAULTS["retention_failed_us"],
}

_READ: Final = ("frame", "rows", "reads")
_STEP: Final = ("frame", "rows", "lives")
PARTS: Final[dict[str, tuple[str, ...]]] = {
    "open": (),
    "drop": (),
    "enqueue": ("frame", "rows", "edits"),
    "exchange": _STEP,
    "renew": _STEP,
    "maintain": _STEP,
    "cancel": _STEP,
    "retry": (*_STEP, "edits"),
    "delete": ("frame", "rows"),
    "update": ("frame", "rows", "edits"),
    "pause": ("frame",),
    "resume": ("frame",),
    "purge": ("frame", "rows"),
    "prune": ("frame", "rows"),
    "restore": ("frame", "rows"),
    "export": _READ,
    "load": _READ,
    "find": _READ,
    "count": ("frame",),
    "dump": _READ,
    "facts": ("frame",),
    "check_rows": _READ,
    "check_index": _READ,
    "check_keys": ("frame", "rows"),
    "check_totals": ("frame",),
}


@frozen
class Script:
    """One verb's whole text, and the digest by which the server knows it."""

    name: str
    text: str
    sha: str


def composed(name: str) -> Script:
    """The script of a verb, as it is sent. Raises KeyError for a verb that there is none for."""
    head = [f"local {constant} = {value}" for constant, value in CONSTANTS.items()] if PARTS[name] else []
    text = "\n".join([*head, *[(FOLDER / f"{part}.lua").read_text("utf-8") for part in (*PARTS[name], name)]])
    return Script(name, text, sha1(text.encode(), usedforsecurity=False).hexdigest())


SCRIPTS: Final = {name: composed(name) for name in PARTS}
