"""The dataset behind an address: opened, made and removed by scripts, so that many processes may do it at once."""

from __future__ import annotations

from typing import Any, Final, NoReturn

from taskweave.core.ids import Micros
from taskweave.exceptions import NotAStore, SchemaTooNew, SchemaTooOld, StoreMissing
from taskweave.stores._redis.rows import text_of
from taskweave.stores._redis.scripts import SCRIPTS
from taskweave.stores._redis.verbs import Dataset

SCHEMA: Final = 1  # of the keys and their fields, as rows.lua says


async def bring_up(dataset: Dataset, create: bool, aging_us: Micros | None) -> bytes:
    """The mark of the dataset that is there now. Raises StoreMissing, NotAStore, SchemaTooNew, SchemaTooOld."""
    prefix = dataset.prefix
    aging = "" if aging_us is None else aging_us
    answer = await dataset.link.evaluate(
        SCRIPTS["open"], f"{prefix}meta", prefix, "", "", 1 if create else 0, aging, SCHEMA
    )
    said, mark = answer
    if said != b"open":
        _refuse(dataset, text_of(said), text_of(mark))
    return bytes(mark)


def _refuse(dataset: Dataset, said: str, found: str) -> NoReturn:
    shown = dataset.link.address.shown
    match said:
        case "missing":
            raise StoreMissing(shown, f"there is nothing in the namespace {dataset.link.address.namespace!r}")
        case "too_new":
            raise SchemaTooNew(shown, f"its schema is {found}, this taskweave knows {SCHEMA}")
        case "too_old":
            raise SchemaTooOld(shown, f"its schema is {found}, this taskweave needs {SCHEMA}")
        case _:
            raise NotAStore(shown, f"the namespace {dataset.link.address.namespace!r} holds keys without their marker")


async def drop_some(dataset: Dataset, cursor: Any) -> bytes:
    """Remove some of the keys, the marker first; the cursor to go on with, b"0" at the end."""
    prefix = dataset.prefix
    answer = await dataset.link.evaluate(SCRIPTS["drop"], f"{prefix}meta", prefix, "", "", cursor)
    return bytes(answer)
