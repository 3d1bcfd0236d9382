"""The SQL of the store: one statement per file under _sql/postgres, with the namespace's schema in its place.

In the files the schema is called `taskweave`, as it is by default, so that each can be read, run and explained as it
stands. Another namespace takes its place by its quoted name, and nothing else is ever put into a statement.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Final

from taskweave.stores._postgres.address import checked_namespace

FOLDER: Final = Path(__file__).parent.parent / "_sql" / "postgres"

_TEXTS: Final = {path.stem: path.read_text("utf-8").strip() for path in sorted(FOLDER.glob("*.sql"))}
_MIGRATIONS: Final = [(path.stem, path.read_text("utf-8").strip()) for path in sorted(FOLDER.glob("migrations/*.sql"))]
_SCHEMA: Final = re.compile(r"\btaskweave\b(?=[.;])")

VERSION: Final = max(int(name[:4]) for name, _ in _MIGRATIONS)


def ident(name: str) -> str:
    """The name of a schema as it stands in SQL. Raises InvalidValue: no other text ever becomes part of a statement."""
    return f'"{checked_namespace(name)}"'


@lru_cache(maxsize=64)
def statements(namespace: str) -> dict[str, str]:
    """Every statement by name."""
    schema = ident(namespace)
    return {name: _SCHEMA.sub(schema, text) for name, text in _TEXTS.items()}


def migrations(namespace: str) -> list[tuple[int, str, str]]:
    """Every migration, oldest first: the schema version it leads to, its name, its script."""
    schema = ident(namespace)
    return [(int(name[:4]), name, _SCHEMA.sub(schema, text)) for name, text in _MIGRATIONS]
