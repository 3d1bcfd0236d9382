"""The SQL of the store: one statement per file under _sql/mysql, with the namespace in the names of its tables.

In the files the tables are called `taskweave_...`, as they are by default, so that each can be read, run and explained
as it stands. Another namespace takes the place of `taskweave`, once it is checked, and the one thing that MariaDB and
MySQL spell apart is the collation that compares by code point and does not pad. Nothing else is put into a statement
but literals, made by the driver.

    $1        the first parameter; a list stands for a list of literals in brackets, and is never empty
    $1:json   the first parameter, a list, as the literal of a JSON text
    $rows     the records of `many`, as rows of VALUES
    $seqs     of `many`: one statement for all records that differ in nothing but their last field, a seq
    -- leap   is run again with the last value found, until there is none: no optimizer here leaps along an index
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from attrs import frozen

from taskweave.stores._mysql.address import checked_namespace
from taskweave.stores._server.rows import Record

FOLDER: Final = Path(__file__).parent.parent / "_sql" / "mysql"
COLLATION: Final = "utf8mb4_nopad_bin"  # as it stands in the files: MariaDB's
COLLATION_OF_MYSQL: Final = "utf8mb4_0900_bin"

_TABLE: Final = re.compile(r"\btaskweave_(?=(meta|pause|claim|job)\b|')")
_COMMENT: Final = re.compile(r"^--.*\n?", re.MULTILINE)
_COLUMNS: Final = re.compile(r"\{(\w+)\}")
_SLOT: Final = re.compile(r"\$(?:(\d+)(:json)?|rows|seqs)")
_LEAP: Final = re.compile(r"^-- leap \$(\d+):", re.MULTILINE)

_LISTS: Final = {path.stem: _COMMENT.sub("", path.read_text("utf-8")).rstrip() for path in FOLDER.glob("columns/*.sql")}
_TEXTS: Final = {path.stem: path.read_text("utf-8").strip() for path in sorted(FOLDER.glob("*.sql"))}
_MIGRATIONS: Final = [(path.stem, path.read_text("utf-8").strip()) for path in sorted(FOLDER.glob("migrations/*.sql"))]

VERSION: Final = max(int(name[:4]) for name, _ in _MIGRATIONS)

Literal = Callable[[object], bytes]


@frozen
class Slot:
    """A place for parameter `number`, from 0."""

    number: int
    json: bool = False


Parts = tuple[bytes | Slot, ...]


@frozen
class Statement:
    """What one file says, cut at the places of its parameters; mostly one statement, sometimes several in a row."""

    clauses: tuple[Parts, ...]
    many: str | None = None  # "rows" or "seqs"
    leap: int | None = None  # the parameter that is the last value found
    locks: bool = False  # what it reads, it locks

    def texts(self, parameters: Sequence[Any], literal: Literal) -> list[bytes]:
        """Its statements with these parameters."""
        return [_filled(parts, parameters, literal) for parts in self.clauses]

    def of_many(self, records: Sequence[Record], literal: Literal, bytes_max: int) -> Iterator[bytes]:
        """The statement for all these records, in as many texts as `bytes_max` asks for. Equal values are made once."""
        known: dict[Any, bytes] = {}

        def once(value: Any) -> bytes:
            key = (value.__class__, value)
            made = known.get(key)
            if made is None:
                made = known[key] = literal(value)
            return made

        if self.many == "rows":
            yield from self._of_rows(records, once, bytes_max)
        else:
            yield from self._of_seqs(records, once)

    def _of_rows(self, records: Sequence[Record], literal: Literal, bytes_max: int) -> Iterator[bytes]:
        head, tail = (part for part in self.clauses[0] if isinstance(part, bytes))
        rows: list[bytes] = []
        size = len(head)
        for record in records:
            row = b"(%b)" % b",".join(map(literal, record))
            if rows and size + len(row) > bytes_max:
                yield head + b",".join(rows) + tail
                rows, size = [], len(head)
            rows.append(row)
            size += len(row) + 1
        yield head + b",".join(rows) + tail

    def _of_seqs(self, records: Sequence[Record], literal: Literal) -> Iterator[bytes]:
        alike: dict[Record, list[int]] = {}
        for record in records:
            alike.setdefault(record[:-1], []).append(record[-1])
        for values, seqs in alike.items():
            yield _filled(self.clauses[0], (*values, seqs), literal)


def _filled(parts: Parts, parameters: Sequence[Any], literal: Literal) -> bytes:
    return b"".join(
        [part if isinstance(part, bytes) else _value(parameters[part.number], part, literal) for part in parts]
    )


def _value(value: Any, slot: Slot, literal: Literal) -> bytes:
    if value.__class__ is not list:
        return literal(value)
    values: list[Any] = value
    if not values:
        raise ValueError("a list of a statement is empty: it would be no SQL")
    if slot.json:
        return literal(json.dumps(values))
    return b"(%b)" % b",".join(map(literal, values))


def compiled(text: str) -> Statement:
    """The statement in this text. Parameters of `many` come in their order, the list of seqs last."""
    leap = _LEAP.search(text)
    text = _COMMENT.sub("", text).strip().removesuffix(";")
    many = "rows" if "$rows" in text else "seqs" if "$seqs" in text else None
    clauses = tuple(_cut(clause) for clause in text.split(";\n"))
    return Statement(clauses, many, int(leap[1]) - 1 if leap else None, "FOR UPDATE" in text)


def _cut(text: str) -> Parts:
    parts: list[bytes | Slot] = []
    end, numbers = 0, [int(found[1]) for found in _SLOT.finditer(text) if found[1]]
    for found in _SLOT.finditer(text):
        parts.append(text[end : found.start()].encode())
        end = found.end()
        if found[1]:
            parts.append(Slot(int(found[1]) - 1, json=found[2] is not None))
        elif found[0] == "$seqs":
            parts.append(Slot(max(numbers)))
    parts.append(text[end:].encode())
    return tuple(parts)


def ident(name: str) -> str:
    """The beginning of the tables' names. Raises InvalidValue: no other text ever becomes part of a statement."""
    return f"{checked_namespace(name)}_"


@lru_cache(maxsize=64)
def statements(namespace: str, collation: str = COLLATION) -> Mapping[str, Statement]:
    """Every statement by name."""
    return {name: compiled(_named(text, namespace, collation)) for name, text in _TEXTS.items()}


def migrations(namespace: str, collation: str = COLLATION) -> list[tuple[int, str, str]]:
    """Every migration, oldest first: the schema version it leads to, its name, its script."""
    return [(int(name[:4]), name, _named(text, namespace, collation)) for name, text in _MIGRATIONS]


def _named(text: str, namespace: str, collation: str) -> str:
    whole = _COLUMNS.sub(lambda found: _LISTS[found[1]], text)
    return _TABLE.sub(ident(namespace), whole).replace(COLLATION, collation)
