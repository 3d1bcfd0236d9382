"""The SQL of the store: one statement per file under _sql/sqlite, so that each can be read, explained and tested alone.

A name that has no file fails when the module that wants it is imported, not when the verb first runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent.parent / "_sql" / "sqlite"

STATEMENTS: Final = {path.stem: path.read_text("utf-8").strip() for path in sorted(FOLDER.glob("*.sql"))}


def statement(name: str) -> str:
    """The text of one statement. Raises KeyError."""
    return STATEMENTS[name]


def migrations() -> list[tuple[int, str, str]]:
    """Every migration, oldest first: the schema version it leads to, its name, its script."""
    found = sorted((FOLDER / "migrations").glob("*.sql"))
    return [(int(path.stem[:4]), path.stem, path.read_text("utf-8")) for path in found]
